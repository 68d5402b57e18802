"""Texts of your own, by class.

Change the network, and compare methods on it:

    aleator run FILE:MyRecipe --rounds 20
    aleator compare FILE:MyRecipe --variant plain --variant half:subset=rs2,ratio=0.5 --variant mean:ema=0.99 --seeds 5
    aleator advise FILE:MyRecipe --minutes 10
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from aleator.data import text_splits
from aleator.random import Streams
from aleator.recipes import Supervised


@dataclass(frozen=True)
class MyRecipe(Supervised):
    """Say which class a text is of, from its words."""

    lr: float | None = 1.0
    """Learning rate at its highest. Frequencies of words are small numbers."""
    weight_decay: float = 0.0
    """Applied to every parameter."""
    folder: str = "FOLDER"
    """The texts: CLASS.txt with a text in each line, or CLASS/*.txt."""

    def splits(self, streams: Streams) -> dict[str, Any]:
        """70/15/15 % of the texts, the same for every seed."""
        return text_splits(self.folder, Streams(0).generator("split"))

    def network(self, splits: Mapping[str, Any]) -> nn.Module:
        """A linear model of the words."""
        classes = 1 + max(int(labels.max()) for _, labels in splits.values())
        return nn.Linear(splits["train"][0].shape[1], classes)
