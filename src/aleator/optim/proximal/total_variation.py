"""One-dimensional total variation: signals that are constant in pieces.

    prox: argmin_x ½ Σ (x_i − v_i)² + tλ Σ |x_{i+1} − x_i|

The cumulative sum of x is the shortest string from (0, 0) to (n, Σv) within a tube of radius tλ around the cumulative
sum of v: each of its straight pieces is a piece where x is constant. The string is found in one pass, O(n), with the
convex hulls of the two walls of the tube as far as they are seen. This runs on the CPU, about a microsecond an entry.

P. L. Davies and A. Kovac, "Local Extremes, Runs, Strings and Multiresolution", Ann. Statist. 2001; also L. Condat, "A
Direct Algorithm for 1-D Total Variation Denoising", IEEE Signal Process. Lett. 2013.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from aleator.optim.proximal.operator import Prox, Step, check_weight, placed

Vertex = tuple[int, float, int]
"""Where the string bends: index, height, and 1 at the upper wall, −1 at the lower, 0 at the ends."""


@dataclass(frozen=True, eq=False)
class TotalVariation1d(Prox):
    """``λ Σ |x_{i+1} − x_i|`` along the last dimension; every row is a signal of its own.

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
        """Return the signal that is constant in pieces."""
        if v.ndim == 0:
            return v.clone()
        level = placed(step, v) * self.lam
        rows = v.reshape(-1, v.shape[-1])
        return torch.stack([_flattened(row, level) for row in rows]).view(v.shape)

    def penalty(self, x: Tensor) -> Tensor:
        """Return ``λ Σ |x_{i+1} − x_i|``."""
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        return self.lam * wide.diff(dim=-1).abs().sum() if x.ndim else wide.new_zeros(())


def _flattened(row: Tensor, level: float | Tensor) -> Tensor:
    values = row.detach().double().cpu()
    if not bool(torch.isfinite(values).all()):
        return torch.full_like(row, torch.nan)  # there is no string to pull
    vertices = _taut_string(values.tolist(), float(level.detach() if isinstance(level, Tensor) else level))
    ends = torch.tensor([index for index, _, _ in vertices], device=row.device)
    walls = torch.tensor([side for _, _, side in vertices], device=row.device, dtype=torch.float64)
    lengths = ends.diff()
    piece = torch.repeat_interleave(torch.arange(len(lengths), device=row.device), lengths)
    # Sums of pieces, not differences of cumulative sums; differentiable in the values and in the level.
    sums = torch.zeros(len(lengths), dtype=torch.float64, device=row.device).index_add(0, piece, row.double())
    heights = (sums + level * walls.diff()) / lengths
    return heights[piece].to(row.dtype)


def _taut_string(values: Sequence[float], radius: float) -> list[Vertex]:
    """Return where the shortest string in the tube around the cumulative sum of the values bends."""
    sums = list(itertools.accumulate(values, initial=0.0))
    last = len(values)
    apex: Vertex = (0, 0.0, 0)
    bends = [apex]
    # The walls seen from the apex: the upper one as its convex hull from below, the lower one from above.
    upper, lower = deque([apex]), deque([apex])
    for i in range(1, last + 1):
        at_end = i == last
        for sign, hull, other in ((1, upper, lower), (-1, lower, upper)):
            point = (i, sums[i] + (0.0 if at_end else sign * radius), 0 if at_end else sign)
            while len(hull) > 1 and sign * (_slope(hull[-2], hull[-1]) - _slope(hull[-1], point)) >= 0:
                hull.pop()
            hull.append(point)
            if len(hull) == 2:
                # Straight from the apex: where that would leave through the other wall, the string bends there.
                # To touch it is not to leave: where the tube is thinner than rounding, both walls are one.
                while len(other) > 1 and sign * (_slope(other[0], other[1]) - _slope(hull[0], point)) > 0:
                    bends.append(other[1])
                    other.popleft()
                    hull[0] = other[0]
            if at_end:
                break
    return [*bends, *itertools.islice(upper, 1, None)] if bends[-1][0] != last else bends


def _slope(a: Vertex, b: Vertex) -> float:
    return (b[1] - a[1]) / (b[0] - a[0])
