"""The loss of a network as the solution of an equation, from some of its second derivatives.

    r^J = A + (d/|J|) Σ_{i∈J} ∂²u/∂x_i² − f          J: dimensions drawn without replacement

    algorithm 1   ∇ mean(2 r · r^J)      r of all dimensions, without a graph: memory of |J| dimensions
    algorithm 2   ∇ mean(2 r^K · r^J)    K drawn independently of J: time and memory of |K| + |J| dimensions
    algorithm 3   ∇ mean((r^J)²)         one set: the cheapest, and biased by the variance of r^J

The first factor is a number, so that 1 and 2 are unbiased. Random vectors in the place of dimensions (Hutchinson) go
the same three ways. Z. Hu et al., arXiv 2307.12306, Algorithms 1 to 3.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aleator.gradients import SDGD, Exact, Hutchinson, residual_loss
from aleator.pde.derivatives import fields, whole_lap, with_derivatives
from aleator.pde.equation import Equation, as_equation, check_residual, probe_once

Algorithm = Literal[1, 2, 3]
Estimator = SDGD | Hutchinson | Exact
Metrics = dict[str, Tensor]


def pinn_loss(
    residual: Equation | Callable[..., Tensor],
    net: Callable[[Any], Any],
    x: Float[Tensor, "n coordinates"],
    algorithm: Algorithm | None = None,
    indices: tuple[Tensor | None, Tensor] | None = None,
    *,
    estimator: Estimator | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Metrics]:
    """Return the mean squared residual, with the gradient of one of the three algorithms.

    Args:
        residual: see `Equation`; with time, x is [x, t].
        net: a module or any function, x → (n,), (n, 1) or (n, outputs). DistributedDataParallel is to wrap a
            `WithDerivatives` of it.
        x: points.
        algorithm: 1, 2 or 3, with indices; 2 by default. An estimator says which itself.
        indices: (K, J) instead of an estimator: dimensions (b,), the same for all points, or (n, b); or vectors
            (b, coordinates). J has the gradient and K weighs; K is None with algorithms 1 and 3; with 3 it may be
            J as well.
        estimator: from which J and K are drawn: ``SDGD(100)`` and ``Hutchinson(16)`` are algorithm 2, with
            ``weight_batch="all"`` 1, with ``unbiased=False`` 3. `Exact` takes all dimensions.
        generator: of the draws.

    Returns:
        The loss, whose value is an estimate of mean r², and ``{"residual": …}``, an estimate without a graph: of
        algorithm 1 mean r² itself; of 2 mean(r^K r^J), which is unbiased and may be negative; of 3 mean((r^J)²), which
        is too large by the variance of r^J.

    Raises:
        ValueError: if the residual is not affine in lap, sets are missing or too many, dimensions are not there, or the
            network is sharded, in half precision or wrapped without its derivatives.

    Example:
        >>> loss, metrics = pinn_loss(
        ...     lambda *, lap, u: lap + u, net, x, indices=(torch.tensor([0, 3]), torch.tensor([1, 2]))
        ... )
    """
    equation = as_equation(residual)
    if x.dtype not in (torch.float32, torch.float64) or x.ndim != 2:
        raise ValueError(f"x must be float32 or float64 of shape (n, coordinates), got {x.dtype} of {tuple(x.shape)}")
    derived = with_derivatives(net, equation)
    probe_once(equation, x.shape[1] - equation.has_time, x)
    drawn = given(indices, algorithm) if indices is not None else draw(equation, x, algorithm, estimator, generator)
    return drawn_loss(equation, derived, x, *drawn)


Drawn = tuple[Tensor | None, Tensor | Literal["all"] | None]


def draw(
    equation: Equation,
    x: Tensor,
    algorithm: Algorithm | None,
    estimator: Estimator | None,
    generator: torch.Generator | None,
) -> Drawn:
    """Return what has the gradient, None for all dimensions, and what weighs: None for the same.

    Raises:
        ValueError: if there is nothing to draw from, or fewer dimensions than are to be sampled.
    """
    if estimator is None:
        raise ValueError("either indices or estimator must be given, got neither")
    if algorithm is not None:
        raise ValueError(f"algorithm cannot be used with estimator, which says it itself, got {algorithm}")
    if isinstance(estimator, Exact):
        return None, None
    if generator is None:
        raise ValueError("generator must be given to draw with, got None")
    d = x.shape[1] - equation.has_time
    learn = estimator.draw(x, generator, d)
    if not estimator.unbiased:
        return learn, None
    weigh = estimator.draw_weight(x, generator, d)
    return learn, "all" if weigh is None else weigh


def given(indices: tuple[Tensor | None, Tensor], algorithm: Algorithm | None) -> Drawn:
    """Return sets that somebody gives, as `draw` does.

    Raises:
        ValueError: if the algorithm is unknown, or K is missing or has no part in it.
    """
    if algorithm not in (1, 2, 3, None):
        raise ValueError(f"algorithm must be 1, 2 or 3, got {algorithm!r}")
    weigh, learn = indices
    if algorithm == 3 and weigh is not None and torch.equal(weigh, learn):
        weigh = None
    if (weigh is None) != (algorithm in (1, 3)):
        got = "None" if weigh is None else "a set"
        raise ValueError(
            f"indices must be (K, J) with algorithm 2 and (None, J) with 1 and 3, got K = {got} with algorithm "
            f"{algorithm or 2}"
        )
    return learn, "all" if algorithm == 1 else weigh


def drawn_loss(
    equation: Equation,
    net: nn.Module,
    x: Tensor,
    learn: Tensor | None,
    weigh: Tensor | Literal["all"] | None,
) -> tuple[Tensor, Metrics]:
    """Return the loss and what is reported, of sets from `draw`; nothing is checked again.

    Args:
        equation: of the residual.
        net: from `with_derivatives`.
        x: points.
        learn: J; None for all dimensions.
        weigh: K, "all" for all dimensions, None for J itself.
    """
    other = weighing_lap(equation, net, x, weigh)
    values = fields(net, equation, x, learn)
    r, weighing = with_other(equation, values, other)
    loss = residual_loss(r, weighing)
    reported = weighing.square().mean() if isinstance(weigh, str) and weighing is not None else loss.detach()
    return loss, {"residual": reported}


@torch.no_grad()
def weighing_lap(equation: Equation, net: nn.Module, x: Tensor, weigh: Tensor | str | None) -> Tensor | None:
    """Return lap along what weighs, without a graph; None where that is what has the gradient."""
    if weigh is None or "lap" not in equation.asks:
        return None
    if isinstance(weigh, str):
        return whole_lap(net, equation, x)
    d = x.shape[1] - equation.has_time
    found: Tensor = net(x, weigh, weights=equation.weights_at(x, d)).lap
    return found


def with_other(equation: Equation, values: dict[str, Any], other: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Return the residual, and what it is with another lap, without a graph.

    It is evaluated once, since sources may cost more than the network; its derivative in lap says the rest, since it is
    affine, and of each point alone.
    """
    if other is not None and not values["lap"].requires_grad:  # no step of training: lap is a number
        r, moved_r = equation(**values), equation(**(values | {"lap": other}))
        return r.detach(), moved_r.detach()
    r = equation(**values)
    check_residual(r, len(values["x"]))
    if other is None:
        return r, None
    lap = values["lap"]
    step = other - lap.detach()
    columns = r.unbind(1) if r.ndim == 2 else (r,)
    slopes = [torch.autograd.grad(column.sum(), lap, retain_graph=True)[0] * step for column in columns]
    moved = [slope.sum(1) if slope.ndim == 2 else slope for slope in slopes]
    return r, r.detach() + (torch.stack(moved, 1) if r.ndim == 2 else moved[0])
