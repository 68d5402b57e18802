"""Options that recipes on images share: which examples there are, and what a network gets of them.

What they mean is in `aleator.recipes.images.examples`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class ExampleOptions:
    """Which images are learned from, and which are held out."""

    # --- data
    data: Literal["digits", "mnist", "fashion-mnist", "cifar10"] = "digits"
    """The data set."""
    train_size: int | None = None
    """Use this many training examples, drawn anew for each seed; a smaller set is part of a larger one."""
    validation_size: int | None = None
    """Training examples set apart for validation, the same for every seed. Default: a tenth of the training data."""
    test_size: int | None = None
    """Use only the first N test examples."""


@dataclass(frozen=True)
class ImageOptions(ExampleOptions):
    """The same, and what a network gets of them."""

    inputs: Literal["standardised", "unit", "centred"] = "standardised"
    """Pixels with mean 0 and deviation 1 over the training data, or between 0 and 1, or these less the mean of each
    pixel over the training data."""
