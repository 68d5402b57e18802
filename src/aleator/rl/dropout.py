"""Masks of dropout, drawn by the gaps between dropped units.

A coin for each unit is a random number for each. With p = 1 % nearly all of them say "keep". The distance from one
dropped unit to the next is geometric,

    P(gap = k) = p (1 − p)^(k−1),    gap = ⌈log(1 − U) / log(1 − p)⌉

so that as many numbers are drawn as there are dropped units. An update needs ten masks of 256 × 256 units: 6 600
numbers instead of 655 360.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GAPS_PAY_BELOW = 0.1  # a gap costs about as much as ten coins


def dropout_masks(
    shapes: Sequence[torch.Size | tuple[int, ...]],
    p: float,
    generator: torch.Generator,
    *,
    dtype: torch.dtype = torch.float32,
) -> list[Tensor]:
    """Return a mask for each shape: 0 with probability p, else 1/(1 − p), each unit on its own.

    Args:
        shapes: of the masks, which are drawn together.
        p: in [0, 1). Nothing is drawn with p = 0.
        generator: feeds the draws; the masks are on its device.
        dtype: of the masks.

    Raises:
        ValueError: if p is not in [0, 1).
    """
    if not 0 <= p < 1:
        raise ValueError(f"p must be in [0, 1), got {p}")
    sizes = [math.prod(shape) for shape in shapes]
    total, device = sum(sizes), generator.device
    kept = 1 / (1 - p)
    if p == 0:
        flat = torch.ones(total, dtype=dtype, device=device)
    elif p >= _GAPS_PAY_BELOW:
        flat = (torch.rand(total, generator=generator, device=device) >= p).to(dtype).mul_(kept)
    else:
        # One place behind the end takes the gaps that lead beyond it, so that nobody has to wait and count.
        flat = torch.full((total + 1,), kept, dtype=dtype, device=device)
        flat.index_fill_(0, _dropped(total, p, generator), 0.0)
    return [part.view(tuple(shape)) for part, shape in zip(torch.split(flat[:total], sizes), shapes, strict=True)]


def _dropped(total: int, p: float, generator: torch.Generator) -> Tensor:
    """Return the places of dropped units among ``total``, and ``total`` for those beyond the end.

    As many gaps are drawn as are enough but in one of 10¹⁵ calls: eight deviations more than are expected.
    """
    count = math.ceil(total * p + 8 * math.sqrt(total * p * (1 - p)) + 20)
    u = torch.rand(count, generator=generator, dtype=torch.float64, device=generator.device)
    gaps = u.neg_().log1p_().div_(math.log1p(-p)).ceil_().clamp_(min=1)
    return gaps.cumsum(0).sub_(1).clamp_(max=total).long()
