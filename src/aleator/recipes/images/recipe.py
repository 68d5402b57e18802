"""The common base of supervised recipes on images: the examples, and the network's input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from aleator.recipes.images.options import ImageOptions
from aleator.recipes.parts.checks import positive
from aleator.recipes.parts.part import Part

if TYPE_CHECKING:
    from torch import Tensor

    from aleator.data import LabelledImages
    from aleator.random import Streams


@dataclass(frozen=True)
class ImageRecipe(ImageOptions, Part):
    """Images of a data set by name, as bytes until a network wants them."""

    def check(self) -> None:
        """Check what can be checked without data."""
        positive(self, "train_size", "validation_size", "test_size")

    @cached_property
    def images(self) -> LabelledImages:
        """The data set."""
        from aleator.data import load

        found: LabelledImages = load(self.data)
        return found

    def splits(self, streams: Streams) -> Mapping[str, Any]:
        """Return the images as bytes; validation is cut out of training, the same for every seed."""
        from aleator.recipes.images.examples import image_splits

        splits = image_splits(self.images, replace(self, train_size=None), streams)
        return {name: (examples.inputs, examples.targets) for name, examples in splits.items()}

    def prepared(self, inputs: Any) -> Any:
        """Return bytes as the numbers that the options ask for."""
        if self.inputs == "standardised":
            return self.images.normalise(inputs, self.dtype)
        unit = inputs.to(self.dtype) / self.images.max_value
        if self.inputs == "unit":
            return unit
        means = self._means_by_device
        if unit.device not in means:
            from aleator.recipes.images.examples import pixel_means

            means[unit.device] = pixel_means(self.images).to(unit)
        return unit - means[unit.device]

    @cached_property
    def _means_by_device(self) -> dict[Any, Tensor]:
        """The mean of each pixel, copied to a device once and not in every step."""
        return {}

    def summed(self, outputs: Any, targets: Any) -> dict[str, tuple[Tensor, Any]]:
        """Return the sums of cross entropy and of right answers, and the number of examples."""
        from torch.nn import functional as F

        loss = F.cross_entropy(outputs, targets, reduction="sum")
        return {"loss": (loss, len(targets)), "accuracy": ((outputs.argmax(1) == targets).sum(), len(targets))}

    @property
    def dtype(self) -> Any:
        """Of the network's numbers."""
        import torch

        return torch.float64 if getattr(self, "precision", "float32") == "float64" else torch.float32
