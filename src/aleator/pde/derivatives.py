"""How derivatives of a network are asked for, and how they are meant.

`aleator.gradients.WithDerivatives` returns a network's value and derivatives from one ``forward``, which is what
DistributedDataParallel is to wrap: derivatives that are taken of its output, or by reading the weights past it, leave
the processes with different gradients, and nobody says so.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.nn.parallel import DistributedDataParallel

from aleator.gradients import WithDerivatives
from aleator.pde.equation import Equation


def with_derivatives(net: Callable[[Any], Any], equation: Equation) -> nn.Module:
    """Return a network whose ``forward`` returns derivatives too; one that does already is returned as it is.

    Raises:
        ValueError: if the network is sharded, computes in half precision, or DistributedDataParallel wraps it without
            its derivatives.
    """
    if not isinstance(net, nn.Module):  # a plain function
        return WithDerivatives(net, time=equation.has_time)
    inner = net.module if isinstance(net, DistributedDataParallel) else net
    if isinstance(inner, WithDerivatives):
        if inner.time != equation.has_time:
            raise ValueError(f"net must be WithDerivatives(…, time={equation.has_time}), got time={inner.time}")
    elif inner is not net:
        raise ValueError(
            "net must be a WithDerivatives inside DistributedDataParallel, so that forward returns derivatives, got "
            f"{type(inner).__name__}"
        )
    for module in inner.modules():
        if isinstance(module, FSDPModule):
            raise ValueError("net must not be sharded, since derivatives read whole layers, got one of fully_shard")
    for name, parameter in inner.named_parameters():
        if parameter.dtype not in (torch.float32, torch.float64):
            raise ValueError(
                "net must compute in float32 or float64, since second derivatives in half precision are noise, got "
                f"{parameter.dtype} in {name}"
            )
    return net if isinstance(inner, WithDerivatives) else WithDerivatives(net, time=equation.has_time)


def fields(
    net: nn.Module, equation: Equation, x: Float[Tensor, "n coordinates"], drawn: Tensor | None
) -> dict[str, Tensor]:
    """Return what an equation asks for of a network from `with_derivatives`, by the names of its residual.

    Args:
        net: the network.
        equation: the equation.
        x: points.
        drawn: dimensions (b,) or (n, b), or vectors (b, coordinates); None for all dimensions.
    """
    asks, d = equation.asks, x.shape[1] - equation.has_time
    found = net(x, drawn, weights=equation.weights_at(x, d), laplacian="lap" in asks, gradient="grad" in asks)
    values = {"x": x, "u": found.u, "lap": found.lap, "grad": found.grad, "u_t": found.u_t}
    if "u_tt" in asks:  # the second derivative along one vector, which points to the future
        future = torch.zeros(1, d + 1, dtype=x.dtype, device=x.device)
        future[0, d] = 1
        values["u_tt"] = net(x, future).lap
    return {name: value for name, value in values.items() if value is not None}


@torch.no_grad()
def whole_lap(net: nn.Module, equation: Equation, x: Float[Tensor, "n coordinates"]) -> Tensor:
    """Return lap of all dimensions, without a graph, in memory that does not grow with their number."""
    found: Tensor = net(x, weights=equation.weights_at(x, x.shape[1] - equation.has_time)).lap
    return found


def nested_fields(
    function: Callable[[Tensor], Tensor], x: Float[Tensor, "n coordinates"], equation: Equation, d: int
) -> dict[str, Tensor]:
    """Return what an equation may ask for of any function of points, by nested reverse mode, one axis at a time.

    This is how derivatives are meant, and what faster ways are compared with. It is for functions with one output.
    """
    with torch.enable_grad():
        seen = x.detach().clone().requires_grad_()
        u = function(seen).reshape(len(x))  # a network may return (n, 1)
        (gradient,) = torch.autograd.grad(u.sum(), seen, create_graph=True)
        second = []
        for axis in range(x.shape[1]):
            along = gradient[:, axis]
            found = torch.autograd.grad(along.sum(), seen, retain_graph=True)[0] if along.requires_grad else None
            second.append(torch.zeros_like(u) if found is None else found[:, axis])
        diagonal = torch.stack(second, 1)
    weights = equation.weights_at(x, d)
    terms = diagonal[:, :d] if weights is None else weights * diagonal[:, :d]
    values = {"u": u, "lap": terms.sum(1), "grad": gradient[:, :d]}
    if equation.has_time:
        values |= {"u_t": gradient[:, d], "u_tt": diagonal[:, d]}
    return {name: value.detach() for name, value in values.items()}
