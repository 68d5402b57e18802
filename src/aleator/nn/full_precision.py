"""Running means, thresholds and weights of penalties keep float32 where their module is cast to half precision.

A mean that moves by a tenth of a difference stands still in bfloat16 as soon as that is less than a 256th of it, and a
threshold between two numbers of half precision is rounded to one of them. Casting to float64 is followed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


def at_least_float32(dtype: torch.dtype | None) -> torch.dtype:
    """Return the type that statistics of such numbers have; None is torch's default type."""
    return torch.promote_types(torch.get_default_dtype() if dtype is None else dtype, torch.float32)


class FullPrecisionBuffers(nn.Module):
    """A module whose own buffers of floating point are never cast below float32."""

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        before = {name: buffer for name, buffer in self._buffers.items() if buffer is not None}
        applied = super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            after = self._buffers[name]
            if after is not None and after.is_floating_point() and after.dtype.itemsize < 4:
                self._buffers[name] = buffer.to(after.device)
        return applied
