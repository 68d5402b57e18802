"""A supervised recipe that is learned in a moment, with one method to try."""

from dataclasses import dataclass

import torch
from torch import nn

from aleator.random import Streams
from aleator.recipes import SupervisedBase
from aleator.recipes.parts.ema import WeightEMA


@dataclass(frozen=True)
class Tiny(WeightEMA, SupervisedBase):
    """Tell apart two clouds of points."""

    batch_size: int = 20
    rounds: int = 4

    def arms_by_part(self):
        """Only the mean of the weights."""
        return {"WeightEMA": self.arms()}

    def splits(self, streams):
        """The same for every seed."""
        generator = Streams(0).generator("split")
        y = torch.arange(360) % 2
        x = torch.randn(360, 3, generator=generator) + y[:, None]
        return {
            "train": (x[:200], y[:200]),
            "validation": (x[200:260], y[200:260]),
            "test": (x[260:], y[260:]),
        }

    def network(self, splits):
        """A line."""
        return nn.Linear(3, 2)
