"""Pooling and upsampling as the published formulas say them, with tensors of batch × length × segments.

    w_ts = 1 − (s − c_t) where s = c_t, else 0;    g_s = Σ_t w_ts h_t / (Σ_t w_ts + 1e-9)
    upsampling: the same with the inclusive count C_t, normalised over s

and autograd does the rest. It is the peer in the benchmark and the reference in the tests of `aleator.nn.segments`.
"""

from __future__ import annotations

import torch
from torch import Tensor

EPS = 1e-9


def dense_pool(hidden: Tensor, boundaries: Tensor) -> Tensor:
    """Return the means of the segments, (batch, most boundaries of a row, channels)."""
    weights = _matches(boundaries.cumsum(1) - boundaries, int(boundaries.sum(1).max()))
    return torch.einsum("bls,blc->bsc", weights / (weights.sum(1, keepdim=True) + EPS), hidden)


def dense_upsample(shortened: Tensor, boundaries: Tensor) -> Tensor:
    """Return for every token the entry of the last closed segment, (batch, length, channels)."""
    weights = _matches(boundaries.cumsum(1), shortened.shape[1])
    return torch.einsum("bls,bsc->blc", weights / (weights.sum(2, keepdim=True) + EPS), shortened)


def _matches(segment: Tensor, slots: int) -> Tensor:
    distance = torch.arange(slots, dtype=segment.dtype, device=segment.device) - segment.unsqueeze(-1)
    return torch.where(distance == 0, 1 - distance, 0)
