"""The column TARGET of a table from all others.

Change the network, and compare methods on it:

    aleator compare FILE:MyRecipe --variant plain --variant half:subset=rs2,ratio=0.5 --variant mean:ema=0.99 --seeds 5
    aleator advise FILE:MyRecipe --minutes 10
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from aleator.data import table_splits
from aleator.random import Streams
from aleator.recipes import Supervised


@dataclass(frozen=True)
class MyRecipe(Supervised):
    """Predict a column of a table."""

    csv: str = "CSV"
    column: str = "TARGET"
    """What to predict: classes, or a number in units of its deviation over the training rows."""
    width: int = 64
    """Hidden units."""

    def splits(self, streams: Streams) -> dict[str, Any]:
        """70/15/15 % of the rows, the same for every seed; the log says what was understood of the columns."""
        return table_splits(self.csv, self.column, Streams(0).generator("split"))

    def network(self, splits: Mapping[str, Any]) -> nn.Module:
        """One layer of hidden units; the loss is the cross entropy for classes, the squared error for a number."""
        x, y = splits["train"]
        classes = 0 if y.is_floating_point() else 1 + max(int(labels.max()) for _, labels in splits.values())
        layers = [nn.Linear(x.shape[1], self.width), nn.ReLU(), nn.Linear(self.width, classes or 1)]
        return nn.Sequential(*layers) if classes else nn.Sequential(*layers, nn.Flatten(0))
