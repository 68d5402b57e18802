"""A task of your own: put your data and your network in.

Run it, then see whether a new random half of the data in every round pays, and whether a mean of the weights does:

    aleator run FILE:MyRecipe --rounds 5
    aleator compare FILE:MyRecipe --variant all --variant half:subset=rs2,ratio=0.5 --variant mean:ema=0.99 --seeds 5
    aleator advise FILE:MyRecipe --minutes 10
"""

from dataclasses import dataclass
from typing import Any

import torch
from sklearn.datasets import load_breast_cancer
from torch import nn

from aleator.random import Streams
from aleator.recipes import Supervised


@dataclass(frozen=True)
class MyRecipe(Supervised):
    """Classify breast tumours as malignant or benign."""

    # A field is an option: `--width 128` above, `wide:width=128` in a variant. Options of methods come by themselves.
    width: int = 64
    """Hidden units."""

    def splits(self, streams: Streams) -> dict[str, Any]:
        """70 % of the examples to train on, 15 % to choose by, 15 % to report; Streams(0): the same for every seed."""
        x, y = (torch.tensor(column) for column in load_breast_cancer(return_X_y=True))
        order = torch.randperm(len(x), generator=Streams(0).generator("split"))
        train, validation, test = order.tensor_split([int(0.7 * len(x)), int(0.85 * len(x))])
        least, most = x[train].aminmax(dim=0)
        x = ((x - x[train].mean(0)) / torch.where(most > least, x[train].std(0), torch.inf)).float()  # constant: 0
        return {"train": (x[train], y[train]), "validation": (x[validation], y[validation]), "test": (x[test], y[test])}

    def network(self, splits: Any) -> nn.Module:
        """One layer of hidden units; the loss is the cross entropy, because targets are integers."""
        return nn.Sequential(nn.Linear(splits["train"][0].shape[1], self.width), nn.ReLU(), nn.Linear(self.width, 2))
