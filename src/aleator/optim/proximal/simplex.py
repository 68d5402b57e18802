"""The simplex and its kin, all by one sort: projections on simplex and ℓ1 ball, and the penalty λ‖x‖_∞.

    τ with Σ w_i max(a_i − τ, 0) = r    from the sorted a;    simplex: max(v − τ, 0)    ℓ1 ball: soft(v, τ), a = |v|

By Moreau's identity the proximal point of λ‖·‖_∞ is v less its projection on the ℓ1 ball of radius tλ: v cut at ±τ. In
a diagonal metric D that holds with w = D. The largest entry is subtracted before sums are taken, which costs no digits
where entries are large beside r.

J. Duchi, S. Shalev-Shwartz, Y. Singer and T. Chandra, "Efficient Projections onto the ℓ1-Ball", ICML 2008.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.optim.proximal.operator import (
    Prox,
    Step,
    check_positive,
    check_weight,
    placed,
    soft_threshold,
)


@dataclass(frozen=True, eq=False)
class LInfNorm(Prox):
    """λ‖x‖_∞ of a whole tensor: the largest entries become equal.

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
        """Return v cut at ±τ."""
        size, weights = v.abs().flatten(), None if metric is None else metric.flatten()
        radius = torch.as_tensor(placed(step, v) * self.lam, dtype=v.dtype, device=v.device)
        total = (size if weights is None else weights * size).sum()
        level = torch.where(total <= radius, 0.0, _level(size, radius, weights))
        return torch.clamp(v, -level, level)

    def penalty(self, x: Tensor) -> Tensor:
        """Return λ max|x_i|."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.lam * wide.abs().amax() if x.numel() else wide.sum()


@dataclass(frozen=True, eq=False)
class L1Ball(Prox):
    """Projection of a whole tensor on ‖x‖₁ ≤ r.

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
        size = v.abs().flatten()
        radius = size.new_tensor(self.radius)
        return soft_threshold(v, torch.where(size.sum() <= radius, 0.0, _level(size, radius)))


@dataclass(frozen=True, eq=False)
class Simplex(Prox):
    """Projection of a whole tensor on x_i ≥ 0, Σ x_i = total.

    Args:
        total: positive.
    """

    projection = True
    total: float = 1.0

    def __post_init__(self) -> None:
        """Check the total."""
        check_positive("total", self.total)

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the projection."""
        shifted = v - v.amax().detach()  # the projection is the same
        return torch.clamp(shifted - _level(shifted.flatten(), v.new_tensor(self.total)), min=0)


def _level(a: Float[Tensor, " n"], total: Float[Tensor, ""], weights: Float[Tensor, " n"] | None = None) -> Tensor:
    """Return τ, 0-d, with Σ w_i max(a_i − τ, 0) = total; of no use where no τ ≥ 0 of the kind is asked for."""
    largest = a.amax().detach()
    ordered, places = (a - largest).sort(descending=True)
    if weights is None:
        mass = torch.arange(1, len(a) + 1, dtype=a.dtype, device=a.device)
        levels = (ordered.cumsum(0) - total) / mass
    else:
        weight = weights[places]
        levels = ((weight * ordered).cumsum(0) - total) / weight.cumsum(0)
    active = (ordered > levels).sum().clamp(min=1)
    return levels.gather(0, (active - 1).view(1)).squeeze(0) + largest
