"""Images of your own, by class.

Change the network, and compare methods on it:

    aleator run FILE:MyRecipe --rounds 20
    aleator compare FILE:MyRecipe --variant plain --variant half:subset=rs2,ratio=0.5 --variant tract:first_layer=tract
    aleator advise FILE:MyRecipe --minutes 10
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

from aleator.data import image_splits
from aleator.random import Streams
from aleator.recipes import Supervised


@dataclass(frozen=True)
class MyRecipe(Supervised):
    """Say which class an image is of."""

    folder: str = "FOLDER"
    """The images: CLASS/*.png, .jpg or the like."""
    size: int = 32
    """Height and width that images are resized to."""

    def splits(self, streams: Streams) -> dict[str, Any]:
        """70/15/15 % of the images, the same for every seed."""
        return image_splits(self.folder, Streams(0).generator("split"), self.size)

    def network(self, splits: Mapping[str, Any]) -> nn.Module:
        """Two convolutions."""
        classes = 1 + max(int(labels.max()) for _, labels in splits.values())
        layers = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(4)]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32 * 16, classes))
