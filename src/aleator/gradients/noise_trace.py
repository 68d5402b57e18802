"""The variance of per-example gradients, put together from micro-batches.

With V the covariance of the gradient g of one example, and M micro-batches of n_i examples, means m_i, unbiased
variances w_i inside, and ḡ = Σ n_i m_i / Σ n_i:

    exact      tr V = [Σ (n_i − 1) tr w_i + Σ n_i ‖m_i − ḡ‖²] / (Σ n_i − 1)
    between    tr V ≈ Σ n_i ‖m_i − ḡ‖² / (M − 1) = (Σ n_i ‖m_i‖² − ‖ḡ‖² Σ n_i) / (M − 1)
    official   mean of tr w_i + mean of ‖m_i − ḡ‖²

The first is what all examples together have, whatever the cut. The second needs no gradient of an example, one number
from each micro-batch, and has M − 1 degrees of freedom: smooth it, or have M ≥ 8. The third is what the program of
AdAdaGrad's authors computes; it is larger than the first by about 1 + 1/n.

T. Lau, H. Liu and M. Kolar, "AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods", arXiv 2402.11215;
T. Lau et al., "Adaptive Batch Size Schedules for Distributed Training of Language Models with Data and Model
Parallelism", CPAL 2025, arXiv 2412.21124. The exact form and that for unequal sizes are the house's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Counts = int | Sequence[int] | Tensor


@dataclass(frozen=True)
class TraceStats:
    """How large the noise and the gradient are, from whichever estimate.

    Attributes:
        trace: tr V, of one example.
        mean_sq_norm: ‖ḡ‖².
        n: examples of the batch that ḡ is of.
    """

    trace: float
    mean_sq_norm: float
    n: int


def pooled_trace(
    means: Float[Tensor, "parts d"], within_traces: Float[Tensor, " parts"], n: Counts
) -> Float[Tensor, ""]:
    """Return tr V of all examples together, from means and traces of parts: exact for every cut.

    Args:
        means: m_i.
        within_traces: tr w_i, unbiased; that of a part of one example is not looked at.
        n: examples of each part, or one number for all.

    Raises:
        ValueError: if there are fewer than 2 examples, or shapes do not fit.
    """
    means, counts = _checked(means, n)
    total = counts.sum()
    if total < 2:
        raise ValueError(f"n must be 2 examples or more in all, got {int(total)}")
    if within_traces.shape != counts.shape:
        raise ValueError(f"within_traces must have an entry for each of {len(counts)} parts, got {within_traces.shape}")
    inside = torch.where(counts > 1, (counts - 1) * within_traces.to(means.dtype), 0)
    return (inside.sum() + _between(means, counts)) / (total - 1)


def between_trace(means: Float[Tensor, "parts d"], n: Counts) -> Float[Tensor, ""]:
    """Return tr V as the means of parts alone tell it.

    Args:
        means: m_i, of two parts or more.
        n: examples of each part, or one number for all.

    Raises:
        ValueError: if there are fewer than 2 parts.
    """
    means, counts = _checked(means, n)
    if len(counts) < 2:
        raise ValueError(f"means must be of 2 parts or more, got {len(counts)}")
    return _between(means, counts) / (len(counts) - 1)


def official_trace(
    means: Float[Tensor, "parts d"], within_traces: Float[Tensor, " parts"], n: Counts
) -> Float[Tensor, ""]:
    """Return what the authors' program takes for tr V; too large by about 1/n of it.

    Args:
        means: m_i.
        within_traces: tr w_i, unbiased.
        n: examples of each part, of which the program knows equal ones.

    Raises:
        ValueError: if parts differ in size.
    """
    means, counts = _checked(means, n)
    if (counts != counts[0]).any():
        raise ValueError(f"n must be the same for all parts in the official statistic, got {counts.long().tolist()}")
    spread = (means - means.mean(0)).square().sum(1).mean()
    return within_traces.to(means.dtype).mean() + spread


def _checked(means: Tensor, n: Counts) -> tuple[Tensor, Tensor]:
    means = means.double()
    counts = torch.as_tensor(n, dtype=torch.float64, device=means.device)
    counts = counts.expand(len(means)) if counts.ndim == 0 else counts
    if len(counts) != len(means) or (counts < 1).any():
        raise ValueError(f"n must be a positive number for each of {len(means)} parts, got {counts.long().tolist()}")
    return means, counts


def _between(means: Tensor, counts: Tensor) -> Tensor:
    centre = (counts @ means) / counts.sum()
    return counts @ (means - centre).square().sum(1)
