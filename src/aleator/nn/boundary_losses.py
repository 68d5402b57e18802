"""Losses that keep the number of boundaries near a target rate α.

With k boundaries among the n positions of a row,

    binomial:  −log Binomial(k; n, α)/n = −[lnΓ(n+1) − lnΓ(k+1) − lnΓ(n−k+1) + k ln α + (n−k) ln(1−α)] / n
    hinge:     max(k/n − α, 0) + max(β − k/n, 0)        free between β and α

k is the sum of hard boundaries, and its gradient reaches the predictor through their estimator. Written with lnΓ, the
binomial loss has a derivative: [ψ(k+1) − ψ(n−k+1) − logit α]/n for each boundary, near zero where k ≈ αn.

O. Ahia et al., "MAGNET", NeurIPS 2024, arXiv 2407.08818; the hinge: A. Owodunni, O. Ahia and S. Kumar, "FLEXITOKENS",
2025, arXiv 2507.12720.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Rate = float | Float[Tensor, " rows"]


def binomial_boundary_loss(
    boundaries: Float[Tensor, "rows length"], rate: Rate, mask: Bool[Tensor, "rows length"] | None = None
) -> Float[Tensor, " rows"]:
    """Return the binomial loss of each row, in nats per position; a row without positions has 0.

    Args:
        boundaries: b, in float32 at least: sums above 256 are inexact in bfloat16.
        rate: α in (0, 1), for all rows or for each. The values of a tensor are not checked: that would wait for the
            device.
        mask: False where a position is padding and counts neither in k nor in n.

    Raises:
        ValueError: if α is not in (0, 1) or the mask has another shape.
    """
    rate = _checked_rate("rate", rate, boundaries)
    k, n = _counts(boundaries, mask)
    choices = torch.lgamma(n + 1) - torch.lgamma(k + 1) - torch.lgamma(n - k + 1)
    return -(choices + k * rate.log() + (n - k) * torch.log1p(-rate)) / n.clamp(min=1)


def hinge_boundary_loss(
    boundaries: Float[Tensor, "rows length"],
    rate: Rate,
    lower: Rate = 0.0,
    mask: Bool[Tensor, "rows length"] | None = None,
) -> Float[Tensor, " rows"]:
    """Return the distance of each row's boundary rate from the interval [β, α]; a row without positions has β.

    Args:
        boundaries: b.
        rate: α in (0, 1), the upper end, for all rows or for each.
        lower: β, at most α. FLEXITOKENS has α − 3σ.
        mask: as of `binomial_boundary_loss`.

    Raises:
        ValueError: if α is not in (0, 1), β is above it, or the mask has another shape.
    """
    target = _checked_rate("rate", rate, boundaries)
    if not isinstance(rate, Tensor) and not isinstance(lower, Tensor) and lower > rate:
        raise ValueError(f"lower must be at most rate={rate}, got {lower}")
    k, n = _counts(boundaries, mask)
    share = k / n.clamp(min=1)
    return (share - target).clamp(min=0) + (lower - share).clamp(min=0)


def check_rate(name: str, rate: float) -> None:
    """Raise ValueError unless the rate is in (0, 1)."""
    if not 0 < rate < 1:
        raise ValueError(f"{name} must be in (0, 1), got {rate}")


def _checked_rate(name: str, rate: Rate, boundaries: Tensor) -> Tensor:
    if isinstance(rate, Tensor):
        return rate.to(boundaries.dtype)
    check_rate(name, rate)
    return torch.full((len(boundaries),), rate, dtype=boundaries.dtype, device=boundaries.device)


def _counts(boundaries: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the boundaries and the positions of each row."""
    if mask is None:
        return boundaries.sum(1), boundaries.new_full((len(boundaries),), boundaries.shape[1])
    if mask.shape != boundaries.shape:
        raise ValueError(f"mask must have shape {tuple(boundaries.shape)}, got {tuple(mask.shape)}")
    return (boundaries * mask).sum(1), mask.sum(1).to(boundaries.dtype)
