"""A network that returns its derivatives from `forward`, for what wraps networks.

`DistributedDataParallel` averages gradients of what its own `forward` returned. Second derivatives taken of a wrapped
network's output, or by reading its weights beside `forward`, leave processes with different gradients, and nothing says
so. Wrap this module, then, and take derivatives from its output:

    net = DistributedDataParallel(WithDerivatives(mlp))
    u, lap, grad, u_t = net(x, SDGD(100).draw(x, generator))
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aleator.gradients.dimensions.estimators import Exact
from aleator.gradients.dimensions.operators import check_weights, exact_sum, scaled, value_and_gradient
from aleator.gradients.dimensions.taylor import Net, check_directions, check_points, second_sum, value_of


class PointDerivatives(NamedTuple):
    """A network's value and derivatives at each point; what was not asked for is None.

    Attributes:
        u: ``(points,)``, with m outputs ``(points, m)``.
        lap: Σ_i w_i ∂²u/∂x_i² over space, or its estimate; as u.
        grad: ∇u in space, ``(points, dim)``, with m outputs ``(points, m, dim)``.
        u_t: ∂u/∂t; as u.
    """

    u: Tensor
    lap: Tensor | None
    grad: Tensor | None
    u_t: Tensor | None


class WithDerivatives(nn.Module):
    """Wraps a network.

    Args:
        net: a module or any function, from points ``(points, dim)`` to ``(points,)``, ``(points, 1)`` or
            ``(points, m)``.
        time: whether the last column of x is t, which is no dimension of space, is never sampled, and has u_t.
    """

    def __init__(self, net: Net, *, time: bool = False) -> None:
        super().__init__()
        self.net = net
        self.time = time

    def forward(
        self,
        x: Float[Tensor, "points columns"],
        drawn: Tensor | None = None,
        *,
        weights: Tensor | None = None,
        laplacian: bool = True,
        gradient: bool = False,
    ) -> PointDerivatives:
        """Return the value and derivatives.

        Args:
            x: the points; with time, dim columns of space and one of t.
            drawn: as `SDGD.draw` or `Hutchinson.draw` gives it (with time, drawn with ``dim=``): coordinates ``(B,)``
                or ``(points, B)``, vectors ``(V, columns)`` or ``(points, V, columns)``. None is all dimensions,
                without a graph some at a time.
            weights: w of the Laplacian, ``(dim,)`` or ``(points, dim)``.
            laplacian: whether `lap` is wanted.
            gradient: whether `grad` is wanted, exactly, by one backward pass.

        Raises:
            ValueError: as in `aleator.gradients.laplacian`.
        """
        check_points(x)
        dim = x.shape[1] - self.time
        u = lap = grad = u_t = None
        if gradient or (self.time and not laplacian):
            u, whole = value_and_gradient(self.net, x)
            grad = whole[..., :dim] if gradient else None
            u_t = whole[..., -1] if self.time else None
        if laplacian and drawn is None and not torch.is_grad_enabled():
            lap, u = exact_sum(self.net, x, weights, Exact().chunk, dim)
            if self.time and u_t is None:
                u_t = second_sum(self.net, x, torch.tensor([dim], device=x.device), count=0)[1][0]
        elif laplacian:
            everything = torch.arange(dim, device=x.device) if drawn is None else drawn
            check_weights(weights, x, rooted=everything.is_floating_point(), dim=dim)
            if drawn is not None and not drawn.is_cuda:  # reading it would wait for the device
                check_directions(drawn, x, dim)
            along, some, scale = self._scaled(x, everything, weights, dim)
            count = along.shape[-2 if along.is_floating_point() else -1]
            with_time = self.time and u_t is None
            if with_time:
                along = _and_time(along, x)
            u_again, first, value = second_sum(self.net, x, along, some, count)
            u = u_again if u is None else u
            u_t = first[-1] if with_time else u_t
            # What u depends on has a gradient, 0 where lap does not: DDP waits for every parameter.
            lap = scale * value + 0 * u
        if u is None:
            u = value_of(self.net, x)
        return PointDerivatives(u, lap, grad, u_t)

    def _scaled(
        self, x: Tensor, drawn: Tensor, weights: Tensor | None, dim: int
    ) -> tuple[Tensor, Tensor | None, float]:
        if drawn.is_floating_point() and weights is not None and dim < x.shape[1]:
            weights = nn.functional.pad(weights, (0, 1))
        return scaled(x, drawn, weights, dim)


def _and_time(along: Tensor, x: Tensor) -> Tensor:
    """Add the direction of the last column after the others."""
    width = x.shape[1]
    if not along.is_floating_point():
        last = along.new_full((*along.shape[:-1], 1), width - 1)
        return torch.cat((along, last), -1)
    last = along.new_zeros(*along.shape[:-2], 1, width)
    last[..., -1] = 1
    return torch.cat((along, last), -2)
