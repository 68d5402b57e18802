"""Which examples of one's own data are for training, for choosing and for the report."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

SHARES = (0.7, 0.15, 0.15)
NAMES = ("train", "validation", "test")


def drawn(count: int, generator: torch.Generator) -> dict[str, Tensor]:
    """Return the indices of the training, validation and test examples of ``count``, 70, 15 and 15 % of them.

    Raises:
        ValueError: if there are fewer than 10.
    """
    if count < 10:
        raise ValueError(f"there must be at least 10 examples to be split in three, got {count}")
    order = torch.randperm(count, generator=generator)
    ends = [round(SHARES[0] * count), round((SHARES[0] + SHARES[1]) * count)]
    return dict(zip(NAMES, order.tensor_split(ends), strict=True))


def said(parts: dict[str, Tensor]) -> str:
    """Return how the examples were divided, in words."""
    return "/".join(str(len(parts[name])) for name in NAMES) + " for training/validation/test, drawn at random"


def class_numbers(labels: Sequence[str]) -> tuple[Tensor, list[str]]:
    """Return the number of each example's class, and the classes in order."""
    classes = sorted(set(labels))
    number = {name: index for index, name in enumerate(classes)}
    return torch.tensor([number[label] for label in labels]), classes
