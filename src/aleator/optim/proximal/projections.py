"""Projections that need no sorting and no decomposition: boxes, balls, and slices of bounded or unit norm."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aleator.optim.proximal.group_lasso import other_dims, slice_norms
from aleator.optim.proximal.operator import Prox, Step, check_weight


@dataclass(frozen=True, eq=False)
class Box(Prox):
    """Projection on low ≤ x_i ≤ high, the same in any diagonal metric.

    Args:
        low: may be −∞.
        high: may be ∞; not below ``low``.
    """

    elementwise = True
    projection = True
    low: float
    high: float

    def __post_init__(self) -> None:
        """Check the bounds."""
        if not self.low <= self.high or self.low == math.inf or self.high == -math.inf:
            raise ValueError(f"low must be at most high, got {self.low} and {self.high}")

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the projection."""
        return torch.clamp(v, self.low, self.high)

    def apply_foreach_(self, tensors: list[Tensor], step: Step) -> bool:
        """Cut in place."""
        torch._foreach_clamp_min_(tensors, self.low)
        torch._foreach_clamp_max_(tensors, self.high)
        torch._foreach_add_(tensors, 0.0)  # −0.0 + 0.0 is 0.0
        return True


class NonNegative(Box):
    """Projection on x_i ≥ 0."""

    def __init__(self) -> None:
        super().__init__(0.0, math.inf)


class LInfBall(Box):
    """Projection on max|x_i| ≤ r.

    Args:
        radius: r, not negative.
    """

    def __init__(self, radius: float) -> None:
        check_weight("radius", radius)
        super().__init__(-radius, radius)


@dataclass(frozen=True, eq=False)
class L2Ball(Prox):
    """Projection of a whole tensor on ‖x‖₂ ≤ r.

    Args:
        radius: r, not negative.
    """

    projection = True
    radius: float

    def __post_init__(self) -> None:
        """Check the radius."""
        check_weight("radius", self.radius)

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the projection."""
        return _bounded(v, self.radius, tuple(range(v.ndim)))


@dataclass(frozen=True, eq=False)
class MaxNorm(Prox):
    """Projection of every slice along a dimension on ‖x_g‖₂ ≤ r: max-norm regularisation of the units of a layer.

    Args:
        radius: r, not negative.
        dim: the dimension whose slices are bounded.
    """

    projection = True
    radius: float
    dim: int = 0

    def __post_init__(self) -> None:
        """Check the radius."""
        check_weight("radius", self.radius)

    @property
    def sliceable(self) -> int | None:
        """The slices' dimension."""
        return self.dim

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the projection."""
        return _bounded(v, self.radius, other_dims(v, self.dim))


@dataclass(frozen=True, eq=False)
class UnitNorm(Prox):
    """Every slice along a dimension divided by its 2-norm. A slice of zeros stays.

    Args:
        dim: the dimension whose slices have norm 1.
    """

    projection = True
    dim: int = 0

    @property
    def sliceable(self) -> int | None:
        """The slices' dimension."""
        return self.dim

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the slices of norm 1."""
        return _directions(v, other_dims(v, self.dim))


def _bounded(v: Tensor, radius: float, dims: tuple[int, ...]) -> Tensor:
    return torch.where(slice_norms(v, dims) <= radius, v, radius * _directions(v, dims))


def _directions(v: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return the blocks that extend over ``dims`` with norm 1; a block of zeros stays."""
    # Twice: norms whose squares leave the range of numbers are near 1 the second time.
    largest = v.detach().abs().amax(dims, keepdim=True) if dims else v.detach().abs()
    scaled = v / torch.where(largest == 0, 1.0, largest)
    norms = slice_norms(scaled, dims)
    return scaled / torch.where(norms == 0, 1.0, norms)
