"""A recipe whose network normalises batches, of which each of several processes sees another part."""

from dataclasses import dataclass

import torch
from torch import nn

from aleator.random import Streams
from aleator.recipes import Supervised
from aleator.recipes.parts import Act, Part


class Looking(Act):
    def after_piece(self, count):
        pass


@dataclass(frozen=True)
class Looks(Part):
    """Look at the gradients of a piece."""

    looks: bool = False

    def act(self, run):
        return Looking() if self.looks else None


@dataclass(frozen=True)
class Normalised(Supervised, Looks):
    """One example for validation, which is fewer than processes."""

    precision: str = "float64"
    rounds: int = 2
    batch_size: int = 8

    def splits(self, streams):
        inputs = torch.randn(64, 3, generator=Streams(0).generator("x"))
        data = inputs, (inputs[:, 0] > 0).long()
        return {"train": data, "validation": (data[0][:1], data[1][:1]), "test": data}

    def network(self, splits):
        return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 2))

    def scores(self, outputs, targets):
        return {"rows": float(len(outputs))}
