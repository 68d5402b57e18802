"""A network for digits at a given learning rate, or at one that is read off the curvature, with either memory.

An MLP of 64-64-64-10 with ReLU, pixels from 0 to 1 less their mean over the training data. The schedule's end is 0.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from aleator.recipes.images.recipe import ImageRecipe
from aleator.recipes.parts.curvature import Curvature
from aleator.recipes.parts.supervised import SupervisedBase


@dataclass(frozen=True)
class HeldCurvature(Curvature):
    """The learned rate, with a choice of what it remembers."""

    hold: Literal["max", "none"] = "max"
    """Whether the curvature is never below the largest so far; the learner alone has no such memory."""

    def act(self, run: Any) -> Any:
        """Return the learner's act."""
        return self.learner(run, self.hold)


@dataclass(frozen=True)
class LearnedDigits(HeldCurvature, ImageRecipe, SupervisedBase):
    """Classify digits by a small network."""

    def network(self, splits: Mapping[str, Any]) -> nn.Module:
        """Return the network."""
        layers = [nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10)]
        return nn.Sequential(nn.Flatten(), *layers)

    def prepared(self, inputs: Any) -> Any:
        """Return pixels from 0 to 1, less their mean over the training data."""
        mean = self.images.train.inputs.to(torch.float32).mean(0)
        return (inputs.to(torch.float32) - mean.to(inputs.device)) / self.images.max_value
