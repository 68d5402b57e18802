"""Squares of pixels of one view at a time, in the place of random pixels: what S3IM is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor


class Crops:
    """Draws a view and a place in it for every step. It has no position of its own: the generator has one.

    Args:
        shape: views, rows and columns of the images, whose pixels are numbered view by view and row by row.
        side: pixels of the squares along each side.
        generator: draws them.

    Raises:
        ValueError: if a view is smaller than the squares.
    """

    def __init__(self, shape: tuple[int, int, int], side: int, generator: torch.Generator) -> None:
        if side > min(shape[1:]):
            raise ValueError(f"batch_size must be at most {min(shape[1:])}² with sampling crops, got {side}²")
        self.shape, self.side, self.generator = shape, side, generator

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the numbers of the pixels of a square, ``batch_size`` of them, row by row, without end."""
        views, height, width = self.shape
        side = self.side
        assert batch_size == side**2
        inside = torch.arange(side)
        square = (inside.unsqueeze(1) * width + inside).flatten()
        while True:
            view, top, left = (
                int(torch.randint(count, (), generator=self.generator))
                for count in (views, height - side + 1, width - side + 1)
            )
            yield (view * height + top) * width + left + square

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the run keeps the generator."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the generator."""
