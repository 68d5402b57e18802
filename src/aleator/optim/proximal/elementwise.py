"""Penalties that are sums over coordinates: ℓ1, ridge, elastic net, ℓ0, Huber and the logarithmic barrier.

    λ|x|:                sign(v)·max(|v| − tλ, 0)               (λ/2)x²:   v/(1 + tλ)
    λ₁|x| + (λ₂/2)x²:    soft(v, tλ₁)/(1 + tλ₂)                 λ·1[x≠0]:  v where |v| > √(2tλ), else 0
    λ·h_δ(x):            vδ/(δ + tλ) where |v| ≤ δ + tλ,        −λ log x:  (v + √(v² + 4tλ))/2
                         else v − tλ·sign(v)

with h_δ(x) = x²/(2δ) for |x| ≤ δ and |x| − δ/2 beyond. In a diagonal metric t becomes t/D_i.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from aleator.optim.proximal.operator import (
    Prox,
    Step,
    check_positive,
    check_weight,
    placed,
    soft_threshold,
    threshold,
)


class Elementwise(Prox):
    """Base of penalties that are sums over coordinates."""

    elementwise = True
    metric_aware = True


def _is_zero(value: float | Tensor) -> bool:
    return not isinstance(value, Tensor) and value == 0


@dataclass(frozen=True, eq=False)
class L1(Elementwise):
    """λ‖x‖₁, or ``Σ λ_i |x_i|``.

    Args:
        lam: λ, a number, or a tensor of weights that broadcasts to the parameter.

    Example:
        >>> L1(1.0)(torch.tensor([-3.0, 0.5, 2.0]), 0.5)
        tensor([-2.5000,  0.0000,  1.5000])
    """

    lam: float | Tensor

    def __post_init__(self) -> None:
        """Check λ."""
        check_weight("lam", self.lam)

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        """Weights are for whole tensors: a shard does not know which are its own."""
        return not isinstance(self.lam, Tensor) or self.lam.numel() == 1

    @property
    def is_identity(self) -> bool:
        """Whether λ is the number 0."""
        return _is_zero(self.lam)

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the soft threshold."""
        return soft_threshold(v, threshold(self.lam, step, metric, v))

    def penalty(self, x: Tensor) -> Tensor:
        """Return Σ λ_i |x_i|."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return (placed(self.lam, wide) * wide.abs()).sum()

    def apply_foreach_(self, tensors: list[Tensor], step: Step) -> bool:
        """Threshold in place where λ and t are numbers."""
        if isinstance(self.lam, Tensor) or isinstance(step, Tensor) or any(_is_half(t) for t in tensors):
            return False
        shrink_foreach_(tensors, step * self.lam)
        return True


@dataclass(frozen=True, eq=False)
class Ridge(Elementwise):
    """(λ/2)‖x‖²; what weight decay is, with the exact step of it.

    Args:
        lam: λ.
    """

    lam: float

    def __post_init__(self) -> None:
        """Check λ."""
        check_weight("lam", self.lam)

    @property
    def ridge(self) -> float:  # type: ignore[override]
        """λ."""
        return self.lam

    @property
    def is_identity(self) -> bool:
        """Whether λ is 0."""
        return self.lam == 0

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return v/(1 + tλ)."""
        return v / (1 + threshold(self.lam, step, metric, v))

    def penalty(self, x: Tensor) -> Tensor:
        """Return (λ/2)‖x‖²."""
        return self.lam / 2 * x.to(torch.promote_types(x.dtype, torch.float32)).square().sum()

    def apply_foreach_(self, tensors: list[Tensor], step: Step) -> bool:
        """Divide in place."""
        if isinstance(step, Tensor):
            return False
        torch._foreach_div_(tensors, 1 + step * self.lam)
        torch._foreach_add_(tensors, 0.0)  # −0.0 + 0.0 is 0.0
        return True


@dataclass(frozen=True, eq=False, kw_only=True)
class ElasticNet(Elementwise):
    """λ₁‖x‖₁ + (λ₂/2)‖x‖².

    Args:
        l1: λ₁.
        l2: λ₂.
    """

    l1: float
    l2: float

    def __post_init__(self) -> None:
        """Check the weights."""
        check_weight("l1", self.l1)
        check_weight("l2", self.l2)

    @property
    def ridge(self) -> float:  # type: ignore[override]
        """λ₂."""
        return self.l2

    @property
    def is_identity(self) -> bool:
        """Whether both weights are 0."""
        return self.l1 == self.l2 == 0

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return soft(v, tλ₁)/(1 + tλ₂)."""
        return soft_threshold(v, threshold(self.l1, step, metric, v)) / (1 + threshold(self.l2, step, metric, v))

    def penalty(self, x: Tensor) -> Tensor:
        """Return λ₁‖x‖₁ + (λ₂/2)‖x‖²."""
        return L1(self.l1).penalty(x) + Ridge(self.l2).penalty(x)

    def apply_foreach_(self, tensors: list[Tensor], step: Step) -> bool:
        """Threshold and divide in place."""
        if isinstance(step, Tensor) or any(_is_half(t) for t in tensors):
            return False
        shrink_foreach_(tensors, step * self.l1)
        torch._foreach_div_(tensors, 1 + step * self.l2)
        return True


@dataclass(frozen=True, eq=False)
class L0(Elementwise):
    """λ times the number of coordinates that are not zero: the hard threshold. A tie becomes 0.

    Args:
        lam: λ.
    """

    lam: float

    def __post_init__(self) -> None:
        """Check λ."""
        check_weight("lam", self.lam)

    @property
    def is_identity(self) -> bool:
        """Whether λ is 0."""
        return self.lam == 0

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return v where |v| > √(2tλ), else 0."""
        level = 2 * threshold(self.lam, step, metric, v)
        root = level.sqrt() if isinstance(level, Tensor) else math.sqrt(level)
        # Not where(|v| > level, v, 0), which would turn NaN into 0.
        return torch.where(v.abs() <= root, 0.0, v)

    def penalty(self, x: Tensor) -> Tensor:
        """Return λ times the number of coordinates that are not zero."""
        return self.lam * x.count_nonzero().to(torch.promote_types(x.dtype, torch.float32))


@dataclass(frozen=True, eq=False)
class Huber(Elementwise):
    """λ Σ h_δ(x_i): quadratic near zero, so that it makes weights small and not zero, and linear beyond.

    Args:
        lam: λ.
        delta: δ, positive: where the two meet.
    """

    lam: float
    delta: float = 1.0

    def __post_init__(self) -> None:
        """Check λ and δ."""
        check_weight("lam", self.lam)
        check_positive("delta", self.delta)

    @property
    def is_identity(self) -> bool:
        """Whether λ is 0."""
        return self.lam == 0

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the proximal point."""
        level = threshold(self.lam, step, metric, v)
        inside = v * (self.delta / (self.delta + level))
        return torch.where(v.abs() <= self.delta + level, inside, v - level * torch.sign(v))

    def penalty(self, x: Tensor) -> Tensor:
        """Return λ Σ h_δ(x_i)."""
        size = x.to(torch.promote_types(x.dtype, torch.float32)).abs()
        small = size.square() / (2 * self.delta)
        return self.lam * torch.where(size <= self.delta, small, size - self.delta / 2).sum()


@dataclass(frozen=True, eq=False)
class LogBarrier(Elementwise):
    """−λ Σ log x_i, which keeps every coordinate positive.

    Args:
        lam: λ.
    """

    lam: float

    def __post_init__(self) -> None:
        """Check λ."""
        check_weight("lam", self.lam)

    @property
    def is_identity(self) -> bool:
        """Whether λ is 0."""
        return self.lam == 0

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return (v + √(v² + 4tλ))/2, for negative v as 2tλ/(√(v² + 4tλ) − v), which does not cancel."""
        level = threshold(self.lam, step, metric, v)
        root = torch.hypot(v, 2 * torch.as_tensor(level, dtype=v.dtype, device=v.device).sqrt())
        negative = v < 0
        below = 2 * level / torch.where(negative, root - v, 1.0)
        return torch.where(negative, below, (v + root) / 2)

    def penalty(self, x: Tensor) -> Tensor:
        """Return −λ Σ log x_i, infinite where a coordinate is not positive."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.lam * torch.where(wide <= 0, torch.inf, -torch.log(torch.where(wide <= 0, 1.0, wide))).sum()


def shrink_foreach_(tensors: list[Tensor], level: float) -> None:
    """Move every entry of many tensors by ``level`` towards 0 and stop there, in place."""
    if torch.compiler.is_compiling() or all(tensor.device.type == "cpu" for tensor in tensors):
        for tensor in tensors:  # a launch costs nothing here, a pass over memory does
            tensor.sub_(tensor.clamp(-level, level))
        return
    clamped = torch._foreach_clamp_max(tensors, level)
    torch._foreach_clamp_min_(clamped, -level)
    torch._foreach_sub_(tensors, clamped)


def _is_half(tensor: Tensor) -> bool:
    return tensor.dtype in (torch.float16, torch.bfloat16)
