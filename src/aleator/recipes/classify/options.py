"""Image classification: the task on which most methods meet.

What is learned is here; the parts among the bases say how, see `aleator.recipes.Supervised`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aleator.experiment import Headline
from aleator.recipes.images.recipe import ImageRecipe
from aleator.recipes.parts.batch_size import AdaptiveBatch
from aleator.recipes.parts.checks import positive
from aleator.recipes.parts.compiled import Compile
from aleator.recipes.parts.curvature import Curvature
from aleator.recipes.parts.ema import WeightEMA
from aleator.recipes.parts.part import Part
from aleator.recipes.parts.proximal import Proximal
from aleator.recipes.parts.subset import Subset
from aleator.recipes.parts.supervised import SupervisedBase
from aleator.recipes.parts.target_surrogates import TargetSurrogates
from aleator.recipes.parts.tract import Tract

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True)
class _Network(Part):
    """The network; a base of its own so that it comes before the training options in the help."""

    model: Literal["mlp", "mlp-without-bias", "mlp-normalised", "cnn", "cnn-bn", "resnet18", "vit", "vit-tiny"] = "mlp"
    """Fully connected (256, 256), (128, 128, 128) without biases, or (128, 128, 128, 128) with layer normalisation;
    two convolutions; three with batch normalisation; ResNet-18 for small images; vision transformers on patches of
    4 × 4, with 7 layers of width 384 or 4 of width 96."""
    rescale: float = 1.0
    """Multiply the weights of the first, third, … layer of mlp-without-bias by this, and divide the weights of the
    others: the function stays the same."""
    augment: Literal["none", "flip", "crop", "flip-crop"] = "none"
    """Random horizontal flips; random crops of the image padded by 4 zero pixels."""

    def check(self) -> None:
        """Check what can be checked without data."""
        positive(self, "rescale")
        if self.rescale != 1 and self.model != "mlp-without-bias":
            raise ValueError(f"rescale must be 1 with model {self.model}, got {self.rescale}")


@dataclass(frozen=True)
class Classify(
    AdaptiveBatch,
    Curvature,
    TargetSurrogates,
    Proximal,
    Compile,
    WeightEMA,
    ImageRecipe,
    SupervisedBase,
    Tract,
    Subset,
    _Network,
):
    """Classify images: full data, a static subset, or repeated random sampling, at any budget."""

    headline: ClassVar[Headline | None] = Headline("accuracy", "max")

    def network(self, splits: Mapping[str, Any]) -> nn.Module:
        """Return the network that the options name."""
        from aleator.recipes.classify.models import image_model, rescale

        channels, height, width = splits["train"][0].shape[1:]
        network = image_model(self.model, (channels, height, width), len(self.images.classes)).to(self.dtype)
        if self.rescale != 1:
            rescale(network, self.rescale)
        return network

    def augmented(self, inputs: Any, targets: Any, generator: torch.Generator) -> tuple[Any, Any]:
        """Return images that are flipped and cropped at random."""
        from aleator.recipes.classify.augment import crop, flip

        if "flip" in self.augment:
            inputs = flip(inputs, generator)
        if "crop" in self.augment:
            inputs = crop(inputs, generator)
        return inputs, targets
