"""Operators that are sums over dimensions, exact or from a sample of them.

    laplacian           Σ_i w_i(x) ∂²u/∂x_i²            w = 1 by default
    squared_gradient    Σ_i (∂u/∂x_i)²
    biharmonic          Σ_ij ∂⁴u/∂x_i²∂x_j² = E[d⁴/ds⁴ u(x + s·v)]/3 for Gaussian v; no sum over single dimensions

Each estimate is unbiased. An estimate's square is not: see `aleator.gradients.dimensions.residual_loss`.

Stable from here on: the names and arguments of `laplacian`, `squared_gradient`, `biharmonic`, `LaplacianEstimate`,
`SDGD`, `Hutchinson`, `Exact`, `taylor2`, `jet`, `residual_loss`, `accumulate_dimensions`, `WithDerivatives`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.gradients.dimensions.estimators import Estimator, Exact, Hutchinson, need
from aleator.gradients.dimensions.jets import Along
from aleator.gradients.dimensions.taylor import (
    Net,
    check_directions,
    check_points,
    jets_along,
    propagate,
    refuse_modules,
    second_sum,
    value_of,
)
from aleator.gradients.dimensions.variance import sampled_dimension_variance

Drawn = Tensor | tuple[Tensor | None, Tensor]


@dataclass(frozen=True)
class LaplacianEstimate:
    """An operator's estimate at each point; ``(points,)``, with m outputs ``(points, m)``.

    Attributes:
        value: the estimate that carries the gradient (of J).
        value_independent: the one that weighs (of K), without a graph; None where there is none.
        u: the network's value, which comes with it.
        drawn: J, or the vectors; None where the value is exact.
        drawn_independent: K, or its vectors; None where there is none, and where it is all dimensions.
        variance: an unbiased estimate of the variance of `value` over draws, where it was asked for.
    """

    value: Tensor
    value_independent: Tensor | None
    u: Tensor
    drawn: Tensor | None = None
    drawn_independent: Tensor | None = None
    variance: Tensor | None = None

    @property
    def indices(self) -> Tensor | None:
        """J, where coordinates were drawn."""
        return None if self.drawn is None or self.drawn.is_floating_point() else self.drawn


def laplacian(
    net: Net,
    x: Float[Tensor, "points dim"],
    estimator: Estimator | None = None,
    *,
    generator: torch.Generator | None = None,
    indices: Drawn | None = None,
    directions: Drawn | None = None,
    weights: Tensor | None = None,
    variance: bool = False,
) -> LaplacianEstimate:
    """Estimate Σ_i w_i ∂²u/∂x_i² at each point.

    Args:
        net: a module or any function from points ``(points, dim)`` to ``(points,)``, ``(points, 1)`` or, with m
            outputs, ``(points, m)``, each point on its own.
        x: the points, float32 or float64.
        estimator: `Exact` by default, `SDGD` or `Hutchinson`.
        generator: where the draws come from.
        indices: coordinates ``(B,)`` or ``(points, B)`` given in place of a draw; ``(K, J)`` for an independent weight,
            where K may be None for all.
        directions: vectors ``(V, dim)`` or ``(points, V, dim)`` in place of a draw; ``(K, J)`` likewise.
        weights: w, ``(dim,)`` or ``(points, dim)``; with `Hutchinson` they may not be negative. Gradients
            go through w.
        variance: whether to estimate the variance as well, which takes a second derivative for each direction.

    Raises:
        ValueError: if an argument is out of range, a draw has no generator, or the network no second derivative.
    """
    check_points(x)
    estimator = Exact() if estimator is None else estimator
    check_weights(weights, x, rooted=isinstance(estimator, Hutchinson) or directions is not None)
    drawn, *independent = _draws(x, estimator, generator, indices, directions)
    spread = None
    if drawn is None:
        value, u = exact_sum(net, x, weights, chunk=_chunk(estimator))
        spread = torch.zeros_like(value) if variance else None
    elif variance:
        value, u, spread = _with_variance(net, x, drawn, weights)
    else:
        value, u = drawn_sum(net, x, drawn, weights)
    weighing = None
    for other in independent:
        with torch.no_grad():
            if other is None:
                weighing, _ = exact_sum(net, x, weights, chunk=_chunk(estimator))
            else:
                weighing, _ = drawn_sum(net, x, other, weights)
    return LaplacianEstimate(value, weighing, u, drawn, next(iter(independent), None), spread)


def squared_gradient(
    net: Net,
    x: Float[Tensor, "points dim"],
    estimator: Estimator | None = None,
    *,
    generator: torch.Generator | None = None,
    indices: Drawn | None = None,
    directions: Drawn | None = None,
) -> LaplacianEstimate:
    """Estimate ``|∇u|² = Σ_i (∂u/∂x_i)²`` at each point.

    Exactly it takes one backward pass and no sample. A sample is for where that pass is too much, or u comes from
    elsewhere.

    Args:
        net: as in `laplacian`.
        x: the points.
        estimator: `Exact` by default, `SDGD` or `Hutchinson`.
        generator: where the draws come from.
        indices: as in `laplacian`.
        directions: as in `laplacian`.

    Raises:
        ValueError: as in `laplacian`.
    """
    check_points(x)
    estimator = Exact() if estimator is None else estimator
    drawn, *independent = _draws(x, estimator, generator, indices, directions)
    value, u = _squares(net, x, drawn)
    weighing = None
    for other in independent:
        with torch.no_grad():
            weighing, _ = _squares(net, x, other)
    return LaplacianEstimate(value, weighing, u, drawn, next(iter(independent), None))


def biharmonic(
    net: Net,
    x: Float[Tensor, "points dim"],
    estimator: Estimator,
    *,
    generator: torch.Generator | None = None,
    directions: Drawn | None = None,
) -> LaplacianEstimate:
    """Estimate Δ²u = Σ_ij ∂⁴u/∂x_i²∂x_j² at each point, by fourth derivatives along Gaussian vectors.

    Args:
        net: as in `laplacian`.
        x: the points.
        estimator: `Hutchinson` with Gaussian vectors. The operator is no sum over single dimensions, and the fourth
            moment of Rademacher vectors is another.
        generator: where the draws come from.
        directions: as in `laplacian`.

    Raises:
        ValueError: for other estimators, and as in `laplacian`.
    """
    check_points(x)
    if not isinstance(estimator, Hutchinson) or estimator.kind != "gaussian":
        raise ValueError(
            "estimator must be Hutchinson(…, 'gaussian') for the biharmonic operator, which is no sum over single "
            f"dimensions, got {estimator}"
        )
    drawn, *independent = _draws(x, estimator, generator, None, directions)
    if any(some is None for some in (drawn, *independent)):
        raise ValueError("directions must be vectors for the biharmonic operator, which has no exact sum, got None")
    assert drawn is not None
    value, u = _fourth(net, x, drawn)
    weighing = None
    for other in independent:
        assert other is not None
        with torch.no_grad():
            weighing, _ = _fourth(net, x, other)
    return LaplacianEstimate(value, weighing, u, drawn, next(iter(independent), None))


def _draws(
    x: Tensor,
    estimator: Estimator,
    generator: torch.Generator | None,
    indices: Drawn | None,
    directions: Drawn | None,
) -> list[Tensor | None]:
    """Return J, and K where there is one; None stands for all dimensions."""
    if indices is not None and directions is not None:
        raise ValueError("indices cannot be used with directions: give one of them")
    given = indices if indices is not None else directions
    if given is None:
        if isinstance(estimator, Exact):
            return [None]
        generator = need(generator)
        drawn = estimator.draw(x, generator)
        return [drawn, estimator.draw_weight(x, generator)] if estimator.unbiased else [drawn]
    listed: list[Tensor | None] = [given] if isinstance(given, Tensor) else [given[1], given[0]]
    for some in listed:
        if some is not None:
            name = "directions" if indices is None else "indices"
            if some.is_floating_point() != (indices is None):
                raise ValueError(f"{name} must be {'floats' if indices is None else 'integers'}, got {some.dtype}")
            check_directions(some, x)
    return listed


def _chunk(estimator: Estimator) -> int:
    return (estimator if isinstance(estimator, Exact) else Exact()).chunk


def _squares(net: Net, x: Tensor, drawn: Tensor | None) -> tuple[Tensor, Tensor]:
    if drawn is None:
        u, gradient = value_and_gradient(net, x)
        return gradient.square().sum(-1), u
    along, _, scale = scaled(x, drawn, None)
    u, first, _ = second_sum(net, x, along, count=0)
    return scale * first.square().sum(0), u


def value_and_gradient(net: Net, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return u and ∇u ``(points, dim)``, with m outputs ``(points, m, dim)``, by one backward pass for each output."""
    refuse_modules(net)
    with_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        at = x if x.requires_grad else x.detach().requires_grad_()
        u = value_of(net, at)
        outputs = u.unbind(1) if u.ndim == 2 else (u,)
        found = [torch.autograd.grad(o.sum(), at, create_graph=with_graph, retain_graph=True)[0] for o in outputs]
    gradient = torch.stack(found, 1) if u.ndim == 2 else found[0]
    return (u, gradient) if with_graph else (u.detach(), gradient)


def _fourth(net: Net, x: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    u, *_, fourth = jets_along(net, x, drawn, order=4)
    return fourth.mean(0) / 3, u


def exact_sum(net: Net, x: Tensor, weights: Tensor | None, chunk: int, dim: int | None = None) -> tuple[Tensor, Tensor]:
    """Return Σ_i w_i ∂²u/∂x_i² over the first `dim` columns, and u; without a graph some directions at a time."""
    everywhere = torch.arange(x.shape[1] if dim is None else dim, device=x.device)
    if torch.is_grad_enabled():
        u, _, value = second_sum(net, x, everywhere, weights)
        return value, u
    parts = torch.split(everywhere, chunk)
    found = [second_sum(net, x, part, None if weights is None else weights[..., part]) for part in parts]
    return torch.stack([second for *_, second in found]).sum(0), found[0][0]


def drawn_sum(
    net: Net, x: Tensor, drawn: Tensor, weights: Tensor | None, dim: int | None = None
) -> tuple[Tensor, Tensor]:
    """Return the scaled sum over drawn directions, and u. Nothing is checked but by torch."""
    along, some, scale = scaled(x, drawn, weights, dim)
    u, _, value = second_sum(net, x, along, some)
    return scale * value, u


def scaled(
    x: Tensor, drawn: Tensor, weights: Tensor | None, dim: int | None = None
) -> tuple[Tensor, Tensor | None, float]:
    """Return directions, their weights in the sum, and the factor that makes the sum an estimate."""
    if not drawn.is_floating_point():
        factor = (x.shape[1] if dim is None else dim) / drawn.shape[-1]
        if weights is None:
            return drawn, None, factor
        if weights.ndim == 1:
            return drawn, weights[drawn], factor
        return drawn, weights[:, drawn] if drawn.ndim == 1 else weights.gather(1, drawn), factor
    factor = 1 / drawn.shape[-2]
    if weights is None:
        return drawn, None, factor
    root = weights.sqrt()  # vᵀ diag(√w) H diag(√w) v has the mean Σ w_i H_ii
    return drawn * (root if weights.ndim == 1 else root.unsqueeze(1)), None, factor


def _with_variance(net: Net, x: Tensor, drawn: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    along, some, scale = scaled(x, drawn, weights)
    u, _, second = propagate(net, x, along, Along(None))
    terms = second.movedim(0, -1)
    if some is not None:
        terms = terms * (some if some.ndim == 1 or terms.ndim == 2 else some.unsqueeze(1))
    count = terms.shape[-1]
    with torch.no_grad():
        if drawn.is_floating_point():
            if count < 2:
                raise ValueError("samples must be at least 2 for a variance, got 1")
            spread = terms.var(-1) / count
        else:
            spread = sampled_dimension_variance(terms, x.shape[1])
    return scale * terms.sum(-1), u, spread


def check_weights(weights: Tensor | None, x: Tensor, *, rooted: bool, dim: int | None = None) -> None:
    """Refuse weights of a wrong shape, and negative ones where their root is taken.

    Raises:
        ValueError: saying what was got.
    """
    if weights is None:
        return
    points, dim = len(x), x.shape[1] if dim is None else dim
    if weights.shape not in ((dim,), (points, dim)):
        raise ValueError(f"weights must have shape ({dim},) or ({points}, {dim}), got {tuple(weights.shape)}")
    if rooted and not torch.compiler.is_compiling() and bool((weights < 0).any()):
        raise ValueError(f"weights must not be negative with random vectors, got {float(weights.min()):g}: use SDGD")
