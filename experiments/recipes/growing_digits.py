"""Digits less the mean of each pixel, a linear classifier or an MLP of 64-64-10, and counts of updates and batches.

The inputs are pixels on a scale from 0 to 1 less the mean of each pixel over the training part, on which much depends.
All 1 437 training images are trained on; they are the validation data as well, by which nothing is chosen here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from aleator.data import load
from aleator.experiment import Split
from aleator.random import Streams
from aleator.recipes import SupervisedBase
from aleator.recipes.parts import Act, Part
from aleator.recipes.parts.batch_size import AdaptiveBatch


class _Counts(Act):
    """Counts what an evaluation then tells."""

    def __init__(self) -> None:
        self.updates = self.examples = self.largest = 0

    def before_step(self, batch: Any) -> None:
        self.updates, self.examples = self.updates + 1, self.examples + batch.total
        self.largest = max(self.largest, batch.total)

    def measured(self, split: Split, found: Mapping[str, float]) -> Mapping[str, float]:
        updates = max(self.updates, 1)
        return {
            "log10_updates": math.log10(updates),
            "largest_batch": float(self.largest),
            "average_batch": self.examples / updates,
        }

    def state_dict(self) -> dict[str, Any]:
        return {"updates": self.updates, "examples": self.examples, "largest": self.largest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.updates, self.examples, self.largest = state["updates"], state["examples"], state["largest"]


@dataclass(frozen=True)
class Counting(Part):
    """Tell updates and batches."""

    def act(self, run: Any) -> Act | None:
        """Return the counts."""
        return _Counts()


@dataclass(frozen=True)
class GrowingDigits(SupervisedBase, AdaptiveBatch, Counting):
    """Classify digits with batches that may grow."""

    hidden: int = 0
    """Hidden units; 0 is a linear classifier."""

    def splits(self, streams: Streams) -> Mapping[str, Any]:
        """Return the centred images."""
        digits = load("digits")
        train, test = ((part.inputs.flatten(1).float() / digits.max_value) for part in (digits.train, digits.test))
        mean = train.mean(0)
        whole = (train - mean, digits.train.targets)
        return {"train": whole, "validation": whole, "test": (test - mean, digits.test.targets)}

    def network(self, splits: Mapping[str, Any]) -> nn.Module:
        """Return the classifier."""
        if not self.hidden:
            return nn.Linear(64, 10)
        return nn.Sequential(nn.Linear(64, self.hidden), nn.ReLU(), nn.Linear(self.hidden, 10))
