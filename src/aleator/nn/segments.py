"""Pooling a sequence into segments and spreading it out again, with gradients for the boundaries, in O(B·L·C).

A boundary at t closes the segment that token t belongs to. With c_t the boundaries before t and C_t those up to t,

    g_s   = Σ_{t: c_t = s} h_t / (n_s + 1e-9)          mean of the closed segment s
    out_t = [null, g_0, g_1, …][C_t]                    the last segment closed at or before t

so out_t depends on nothing after t. Tokens after the last boundary belong to a segment that nobody reads. Boundaries
are 0 or 1, yet the published code derives a gradient for them through the dense weights 1 − (s − c_t); in closed form,
with G = ∂loss/∂g,

    δ_t = ⟨G_{c_t}, h_t − g_{c_t}⟩ / (n + 1e-9) in closed segments, else 0;    ∂loss/∂b_j = Σ_{t>j} δ_t

The spreading gives the boundaries a gradient of relative size 1e-9 there, and none here. Segments are contiguous, so a
sum over a segment is a sum of consecutive rows: no tensor of B×L×S, and no atomic additions in an order of their own.

P. Nawrot et al., "Efficient Transformers with Dynamic Token Pooling", ACL 2023; O. Ahia et al., "MAGNET", NeurIPS 2024,
arXiv 2407.08818.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F

EPS = 1e-9  # of the published code: what a segment's size is increased by
_ROUNDING = 1e-9  # 0.1 · 30 is above 3


def segment_mean(
    hidden: Float[Tensor, "batch length channels"],
    boundaries: Float[Tensor, "batch length"],
    null: Float[Tensor, " channels"] | None = None,
    *,
    num_segments: int | None = None,
) -> Float[Tensor, "batch slots channels"]:
    """Return the mean of every closed segment, with the null vector in front; slots that a row does not use are 0.

    Sums are taken in float32 at least. Time and memory O(B·L·C). Nothing waits for the device.

    Args:
        hidden: h.
        boundaries: b, exactly 0 or 1, of a precision that its gradient shall have. Padding has none.
        null: what is read before the first segment is closed; without it the sequence starts with g_0.
        num_segments: slots S for segments, by default the length L. Later boundaries of a row are ignored: what comes
            after the S-th belongs to the segment that nobody reads.

    Returns:
        A tensor of S slots, or of 1 + S with ``null``, of the dtype of ``hidden``.

    Raises:
        ValueError: if shapes do not fit or S is negative.
    """
    slots = _checked_slots(hidden.shape[:2], boundaries, num_segments)
    means: Tensor = _SegmentMean.apply(hidden, boundaries, slots)  # type: ignore[no-untyped-call]
    if null is None:
        return means
    return torch.cat([null.to(means.dtype).expand(len(hidden), 1, -1), means], dim=1)


def segment_broadcast(
    shortened: Float[Tensor, "batch slots channels"], boundaries: Float[Tensor, "batch length"]
) -> Float[Tensor, "batch length channels"]:
    """Return for every token the entry of the last segment closed at or before it; entry 0 is the null vector's.

    Args:
        shortened: what was made of [null, g_0, …], with 1 + S slots. Boundaries after the S-th are ignored.
        boundaries: b, exactly 0 or 1. They get no gradient here.

    Raises:
        ValueError: if shapes do not fit.
    """
    if shortened.shape[1] < 1:
        raise ValueError(f"shortened must have the null vector's slot, got shape {tuple(shortened.shape)}")
    _checked_slots((shortened.shape[0], boundaries.shape[-1]), boundaries, shortened.shape[1] - 1)
    spread: Tensor = _SegmentBroadcast.apply(shortened, boundaries)  # type: ignore[no-untyped-call]
    return spread


def within_capacity(boundaries: Float[Tensor, "batch length"], capacity: float) -> Float[Tensor, "batch length"]:
    """Return the boundaries without those that would close more segments than a share of the positions up to there.

    One after the other, a boundary at t (from 0) is ignored if ⌈capacity · (t + 1)⌉ segments are closed already.
    Whether it is depends on nothing after t, so neither on padding nor on how long the text will be. With B_t the
    boundaries up to t, the ignored ones up to t are max_{s ≤ t} max(0, B_s − ⌈capacity · (s + 1)⌉).

    Args:
        boundaries: b, exactly 0 or 1. Those that are kept keep their gradient.
        capacity: in (0, 1]; with 1 none is ignored.
    """
    hard = (boundaries.detach() > 0.5).long()
    positions = torch.arange(1, boundaries.shape[1] + 1, device=boundaries.device)
    beyond = hard.cumsum(1) - (capacity * positions.double() - _ROUNDING).ceil().long()
    ignored = beyond.clamp(min=0).cummax(1).values.diff(dim=1, prepend=hard.new_zeros(len(hard), 1))
    return boundaries * (1 - ignored)


def most_segments(capacity: float, positions: int) -> int:
    """Return ⌈capacity · positions⌉, how many segments `within_capacity` lets ``positions`` positions close."""
    return math.ceil(capacity * positions - _ROUNDING)


class _SegmentMean(torch.autograd.Function):
    """The means, and the gradients of the module's formula."""

    @staticmethod
    def forward(ctx: Any, hidden: Tensor, boundaries: Tensor, slots: int) -> Tensor:
        hard = boundaries.detach() > 0.5
        inclusive = hard.long().cumsum(1)
        # Unfinished segments, and those beyond the last slot, go to one more slot that is cut off.
        index = inclusive - hard.long()
        index = torch.where(index < inclusive[:, -1:].clamp(max=slots), index, slots)
        sums, sizes = _sum_by_slot(hidden, index, slots + 1)
        inverse = 1 / (sizes.to(sums.dtype) + EPS)
        means = sums * inverse.unsqueeze(-1)
        ctx.save_for_backward(hidden, index, inverse, means)
        ctx.boundary_dtype = boundaries.dtype
        return means[:, :slots].to(hidden.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        hidden, index, inverse, means = ctx.saved_tensors
        # Nobody reads the last slot: tokens there get no gradient.
        scaled = F.pad(grad.to(means.dtype), (0, 0, 0, 1)) * inverse.unsqueeze(-1)
        grad_hidden = _take(scaled, index)
        grad_boundaries = None
        if ctx.needs_input_grad[1]:
            along_means = (scaled * means).sum(-1).gather(1, index)
            delta = (grad_hidden * hidden).sum(-1) - along_means
            grad_boundaries = (delta.sum(1, keepdim=True) - delta.cumsum(1)).to(ctx.boundary_dtype)
        return grad_hidden.to(hidden.dtype), grad_boundaries, None


class _SegmentBroadcast(torch.autograd.Function):
    """A gather whose gradient is a sum of consecutive rows."""

    @staticmethod
    def forward(ctx: Any, shortened: Tensor, boundaries: Tensor) -> Tensor:
        slots = shortened.shape[1]
        index = (boundaries.detach() > 0.5).long().cumsum(1).clamp(max=slots - 1)
        ctx.save_for_backward(index)
        ctx.slots = slots
        return _take(shortened, index)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (index,) = ctx.saved_tensors
        sums, _ = _sum_by_slot(grad, index, ctx.slots)
        return sums.to(grad.dtype), None


def _flat(index: Int64[Tensor, "batch length"], slots: int) -> Int64[Tensor, " tokens"]:
    rows = torch.arange(len(index), device=index.device)
    return (index + slots * rows.unsqueeze(1)).flatten()


def _take(
    values: Float[Tensor, "batch slots channels"], index: Int64[Tensor, "batch length"]
) -> Float[Tensor, "batch length channels"]:
    taken = values.flatten(0, 1).index_select(0, _flat(index, values.shape[1]))
    return taken.view(*index.shape, values.shape[2])


def _sum_by_slot(
    values: Float[Tensor, "batch length channels"], index: Int64[Tensor, "batch length"], slots: int
) -> tuple[Float[Tensor, "batch slots channels"], Int64[Tensor, "batch slots"]]:
    """Return sums of the tokens of each slot and their number; indices do not decrease along a row."""
    batch, length, channels = values.shape
    tokens = values.to(torch.promote_types(values.dtype, torch.float32)).flatten(0, 1)
    flat = _flat(index, slots)
    first = torch.searchsorted(flat, torch.arange(batch * slots, device=flat.device))
    sizes = torch.diff(first, append=first.new_full((1,), batch * length)).view(batch, slots)
    # A bag is a run of rows: about twice as fast as index_add_ on a CPU, and without atomic additions on a GPU.
    sums = F.embedding_bag(torch.arange(batch * length, device=flat.device), tokens, first, mode="sum")
    return sums.view(batch, slots, channels), sizes


def _checked_slots(shape: tuple[int, ...], boundaries: Tensor, slots: int | None) -> int:
    if tuple(boundaries.shape) != tuple(shape):
        raise ValueError(f"boundaries must have shape {tuple(shape)}, got {tuple(boundaries.shape)}")
    if not boundaries.is_floating_point():
        raise ValueError(f"boundaries must be floating point, got {boundaries.dtype}")
    slots = shape[1] if slots is None else slots
    if slots < 0:
        raise ValueError(f"num_segments must not be negative, got {slots}")
    return slots
