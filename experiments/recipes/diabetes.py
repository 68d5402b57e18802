"""A regression table: how diabetes has progressed after a year, from ten measurements of 442 patients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_diabetes
from torch import nn

from aleator.random import Streams
from aleator.recipes import Supervised


@dataclass(frozen=True)
class Diabetes(Supervised):
    """Predict the progression of diabetes, in units of its deviation over the training rows."""

    batch_size: int = 32
    rounds: int = 40
    width: int = 64
    """Hidden units."""

    def splits(self, streams: Streams) -> dict[str, Any]:
        """70/15/15 % of the rows, the same for every seed."""
        x, y = (torch.tensor(part).float() for part in load_diabetes(return_X_y=True))
        order = torch.randperm(len(x), generator=Streams(0).generator("split"))
        train, validation, test = order.tensor_split([int(0.7 * len(x)), int(0.85 * len(x))])
        x = (x - x[train].mean(0)) / x[train].std(0)
        y = (y - y[train].mean()) / y[train].std()
        parts = {"train": train, "validation": validation, "test": test}
        return {name: (x[rows], y[rows]) for name, rows in parts.items()}

    def network(self, splits: Mapping[str, Any]) -> nn.Module:
        """One layer of hidden units."""
        columns = splits["train"][0].shape[1]
        return nn.Sequential(nn.Linear(columns, self.width), nn.ReLU(), nn.Linear(self.width, 1), nn.Flatten(0))
