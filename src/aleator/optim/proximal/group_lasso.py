"""Penalties that make whole groups of weights zero: the 2-norm, group lasso and sparse group lasso.

    λ w_g ‖x_g‖:    max(0, 1 − tλw_g/‖v_g‖) v_g,    0 where v_g = 0

In a diagonal metric D the point is x = v s/(s + c) with c_i = tλw/D_i and s = ‖x‖, the root of ‖v/(s + c)‖ = 1, and 0
if and only if ‖v/c‖ ≤ 1. With an ℓ1 part the soft threshold comes first, in any diagonal metric.

M. Yuan and Y. Lin, "Model Selection and Estimation in Regression with Grouped Variables", JRSS B 2006;
N. Simon et al., "A Sparse-Group Lasso", JCGS 2013. The root is found as a trust region's: J. Moré and D. Sorensen,
"Computing a Trust Region Step", SIAM J. Sci. Stat. Comput. 1983.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from aleator.optim.proximal.operator import Prox, Step, check_weight, placed, soft_threshold, threshold

GroupWeight = Literal["sqrt"] | float | Tensor
"""w_g: ``"sqrt"`` for √|g|, a number, or a tensor with one for each group."""

# Newton's method on the concave 1/‖v/(s + c)‖ comes from one side and at last doubles the digits in every step.
_NEWTON_STEPS = 12


@dataclass(frozen=True, eq=False)
class L2Norm(Prox):
    """λ‖x‖₂ of a whole tensor, not squared.

    Args:
        lam: λ.
    """

    metric_aware = True
    lam: float

    def __post_init__(self) -> None:
        """Check λ."""
        check_weight("lam", self.lam)

    @property
    def is_identity(self) -> bool:
        """Whether λ is 0."""
        return self.lam == 0

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the block, shortened."""
        return _shortened(v, placed(step, v) * self.lam, metric, tuple(range(v.ndim)))

    def penalty(self, x: Tensor) -> Tensor:
        """Return λ‖x‖."""
        norm: Tensor = torch.linalg.vector_norm(x, dtype=torch.promote_types(x.dtype, torch.float32))
        return self.lam * norm


@dataclass(frozen=True, eq=False)
class GroupLasso(Prox):
    """λ Σ_g w_g ‖x_g‖₂ over the slices of a tensor along a dimension: rows of a matrix, filters of a convolution.

    Args:
        lam: λ.
        dim: the dimension whose slices are the groups; 0 for the units that a layer computes, 1 for those it reads.
        weight: w_g.
    """

    metric_aware = True
    lam: float
    dim: int = 0
    weight: GroupWeight = "sqrt"

    def __post_init__(self) -> None:
        """Check λ and the weights."""
        check_weight("lam", self.lam)
        _check_group_weight(self.weight)

    @property
    def is_identity(self) -> bool:
        """Whether λ is 0."""
        return self.lam == 0

    @property
    def sliceable(self) -> int | None:
        """The groups' dimension, unless each group has a weight of its own."""
        return None if isinstance(self.weight, Tensor) else self.dim

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the groups, shortened."""
        others = other_dims(v, self.dim)
        return _shortened(v, placed(step, v) * self.lam * group_weights(self.weight, v, self.dim), metric, others)

    def penalty(self, x: Tensor) -> Tensor:
        """Return λ Σ_g w_g ‖x_g‖."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        norms = slice_norms(wide, other_dims(x, self.dim))
        return (self.lam * group_weights(self.weight, wide, self.dim) * norms).sum()

    def apply_foreach_(self, tensors: list[Tensor], step: Step) -> bool:
        """Shorten groups in place."""
        if isinstance(step, Tensor) or any(torch.finfo(v.dtype).bits < 32 for v in tensors):
            return False
        for v in tensors:
            level = step * self.lam * group_weights(self.weight, v, self.dim)
            norms = slice_norms(v, other_dims(v, self.dim))
            vanishes = norms <= level
            v.mul_(torch.where(vanishes, 0.0, 1 - level / torch.where(vanishes, 1.0, norms)))
            v.add_(0.0)  # −0.0 + 0.0 is 0.0
        return True


@dataclass(frozen=True, eq=False, kw_only=True)
class SparseGroupLasso(Prox):
    """λ₁‖x‖₁ + λ₂ Σ_g w_g ‖x_g‖₂: groups that are zero, and zeros within the others.

    Args:
        l1: λ₁.
        group: λ₂.
        dim: as in `GroupLasso`.
        weight: w_g.
    """

    metric_aware = True
    l1: float
    group: float
    dim: int = 0
    weight: GroupWeight = "sqrt"

    def __post_init__(self) -> None:
        """Check the weights."""
        check_weight("l1", self.l1)
        check_weight("group", self.group)
        _check_group_weight(self.weight)

    @property
    def is_identity(self) -> bool:
        """Whether both weights are 0."""
        return self.l1 == self.group == 0

    @property
    def sliceable(self) -> int | None:
        """The groups' dimension, unless each group has a weight of its own."""
        return None if isinstance(self.weight, Tensor) else self.dim

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the soft threshold, its groups shortened."""
        shrunk = soft_threshold(v, threshold(self.l1, step, metric, v))
        return GroupLasso(self.group, self.dim, self.weight).apply(shrunk, step, metric) if self.group else shrunk

    def penalty(self, x: Tensor) -> Tensor:
        """Return λ₁‖x‖₁ + λ₂ Σ_g w_g ‖x_g‖."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.l1 * wide.abs().sum() + GroupLasso(self.group, self.dim, self.weight).penalty(wide)


def other_dims(v: Tensor, dim: int) -> tuple[int, ...]:
    """Return the dimensions over which the slices along ``dim`` extend.

    Raises:
        ValueError: if the tensor has no such dimension.
    """
    if not -v.ndim <= dim < v.ndim:
        raise ValueError(f"dim must be a dimension of the parameter, got {dim} for shape {tuple(v.shape)}")
    return tuple(d for d in range(v.ndim) if d != dim % v.ndim)


def slice_norms(v: Tensor, dims: tuple[int, ...]) -> Tensor:
    """Return the 2-norms over ``dims``, which stay with size 1; |v| where there are none."""
    return torch.linalg.vector_norm(v, dim=dims, keepdim=True) if dims else v.abs()


def group_weights(weight: GroupWeight, v: Tensor, dim: int) -> float | Tensor:
    """Return w_g, a number or a tensor that broadcasts along ``dim``.

    Raises:
        ValueError: if there are not as many weights as slices.
    """
    if isinstance(weight, Tensor):
        if weight.shape != (v.shape[dim],):
            raise ValueError(f"weight must have one entry per group, ({v.shape[dim]},), got {tuple(weight.shape)}")
        shape = [1] * v.ndim
        shape[dim] = -1
        return weight.to(v.device, v.dtype).view(shape)
    if weight == "sqrt":
        return math.sqrt(math.prod([size for d, size in enumerate(v.shape) if d != dim % v.ndim]))
    return weight


def _shortened(v: Tensor, level: float | Tensor, metric: Tensor | None, dims: tuple[int, ...]) -> Tensor:
    """Return the proximal point of level·‖·‖ for every block of v that extends over ``dims``."""
    if metric is not None:
        return _shortened_in_metric(v, level, metric, dims)
    norms = slice_norms(v, dims)
    vanishes = norms <= level  # not where(norm > level, …, 0), which would turn NaN into 0
    return torch.where(vanishes, 0.0, v * (1 - level / torch.where(vanishes, 1.0, norms)))


def _shortened_in_metric(v: Tensor, level: float | Tensor, metric: Tensor, dims: tuple[int, ...]) -> Tensor:
    c = level / metric
    # A coordinate of v and c that are both 0 must not become 0/0.
    ratio = torch.where((v == 0) & (c == 0), 0.0, v / c)
    vanishes = slice_norms(ratio, dims) <= 1
    # Below the root: every single term of the norm is at most 1 there.
    largest = (v.abs() - c).amax(dims, keepdim=True) if dims else v.abs() - c
    s = largest.clamp(min=0)
    for _ in range(_NEWTON_STEPS):
        nonzero = s + c
        nonzero = torch.where(nonzero == 0, 1.0, nonzero)
        terms = (v / nonzero).square()
        squares, cubes = (terms.sum(dims, keepdim=True), (terms / nonzero).sum(dims, keepdim=True)) if dims else (
            terms, terms / nonzero
        )  # fmt: skip
        usable = cubes > 0
        s = torch.where(usable, s + squares / torch.where(usable, cubes, 1.0) * (squares.sqrt() - 1), s)
    total = s + c
    share = torch.where(total == 0, 1.0, s / torch.where(total == 0, 1.0, total))
    return torch.where(vanishes, 0.0, v * share)


def _check_group_weight(weight: GroupWeight) -> None:
    if isinstance(weight, str):
        if weight != "sqrt":
            raise ValueError(f'weight must be "sqrt", a number or a tensor, got {weight!r}')
    else:
        check_weight("weight", weight)
