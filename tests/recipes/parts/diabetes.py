from dataclasses import dataclass

import torch
from sklearn.datasets import load_diabetes
from torch import nn

from aleator.random import Streams
from aleator.recipes import Supervised


@dataclass(frozen=True)
class Diabetes(Supervised):
    """Predict how diabetes progresses."""

    width: int = 32
    """Hidden units."""

    def splits(self, streams):
        x, y = (torch.tensor(column, dtype=torch.float32) for column in load_diabetes(return_X_y=True))
        order = torch.randperm(len(x), generator=Streams(0).generator("split"))
        x, y = x[order] * 20, (y[order] - y.mean()) / y.std()
        return {"train": (x[:300], y[:300]), "validation": (x[300:370], y[300:370]), "test": (x[370:], y[370:])}

    def network(self, splits):
        return nn.Sequential(nn.Linear(10, self.width), nn.ReLU(), nn.Linear(self.width, 1), nn.Flatten(0))
