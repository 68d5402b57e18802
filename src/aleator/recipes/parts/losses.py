"""What a supervised task minimises and measures where its recipe does not say."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


def is_classes(targets: Any) -> bool:
    """Whether targets are classes: a row of integers."""
    return isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()


def per_example(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return cross entropy for classes, else the squared error, each a mean over an example's numbers.

    Raises:
        ValueError: if shapes do not fit.
    """
    if is_classes(targets):
        return F.cross_entropy(outputs, targets, reduction="none")
    if outputs.ndim == targets.ndim + 1 and outputs.shape[-1] == 1:
        outputs = outputs.squeeze(-1)
    if outputs.shape != targets.shape:
        raise ValueError(
            f"outputs must have the shape of the targets, {tuple(targets.shape)}, got {tuple(outputs.shape)}; "
            f"define losses(outputs, targets) for another loss"
        )
    return (
        (outputs - targets.to(outputs.dtype)).square().flatten(1).mean(1)
        if outputs.ndim > 1
        else (outputs - targets.to(outputs.dtype)).square()
    )


def summed(values: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
    """Return the sum in double precision and the count to divide it by, from values or from values and counts."""
    if isinstance(values, tuple):
        return values[0].sum(dtype=torch.float64), values[1].sum(dtype=torch.float64)
    return values.sum(dtype=torch.float64), values.numel()
