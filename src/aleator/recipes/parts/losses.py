"""Losses and metrics of a supervised task whose recipe does not define its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from aleator.recipes.parts.batch import Examples, first


def is_classes(targets: Any) -> bool:
    """Whether targets are classes: a row of integers."""
    return isinstance(targets, Tensor) and targets.ndim == 1 and not targets.is_floating_point()


def has_classes(examples: Examples) -> bool:
    """Whether the targets of examples are classes; of a data set, whether its first example's are."""
    if examples.dataset is None:
        return is_classes(examples.targets)
    return is_classes(first(examples)[1])


def per_example(outputs: Tensor, targets: Tensor) -> Tensor:
    """Return cross entropy for classes, else the squared error, each a mean over an example's numbers.

    Raises:
        ValueError: if shapes do not fit.
    """
    if is_classes(targets):
        return F.cross_entropy(outputs, targets.long(), reduction="none")
    if outputs.ndim == targets.ndim + 1 and outputs.shape[-1] == 1:
        outputs = outputs.squeeze(-1)
    if outputs.shape != targets.shape:
        raise ValueError(
            f"outputs must have the shape of the targets, {tuple(targets.shape)}, got {tuple(outputs.shape)}; "
            f"define losses(outputs, targets) for another loss"
        )
    squares = (outputs.to(wide(outputs)) - targets.to(wide(outputs))).square()
    return squares.flatten(1).mean(1) if squares.ndim > 1 else squares


def wide(values: Tensor) -> torch.dtype:
    """Return the precision in which values are squared and summed: float32 where they are in half precision."""
    return torch.promote_types(values.dtype, torch.float32) if values.is_floating_point() else torch.int64


def by_example(values: Tensor | tuple[Tensor, Tensor], examples: int) -> tuple[Tensor, Tensor] | None:
    """Return the sum and the count of each example in double precision; None where values are of something else.

    Args:
        values: of each example or of its parts, such as tokens; or values and counts.
        examples: of the batch.
    """
    pair = values if isinstance(values, tuple) else (values, torch.ones_like(values, dtype=torch.float64))
    if any(len(part) != examples for part in pair):
        return None
    first, second = (part.reshape(examples, -1).sum(1, dtype=torch.float64) for part in pair)
    return first, second


def summed(name: str, values: Tensor | tuple[Tensor, Tensor]) -> tuple[Tensor, Any]:
    """Return the sum in double precision and the count to divide it by, from values or from values and counts.

    Raises:
        ValueError: naming what it is, if there is not a number for each example.
    """
    each: Any
    for each in values if isinstance(values, tuple) else (values,):
        if not isinstance(each, Tensor) or not each.ndim:
            got = "one number for all" if isinstance(each, Tensor) else f"{each!r}"
            raise ValueError(f"{name} must be a tensor of one number for each example, got {got}")
    if isinstance(values, tuple):
        return values[0].sum(dtype=torch.float64), values[1].sum(dtype=torch.float64)
    return values.sum(dtype=torch.float64), values.numel()
