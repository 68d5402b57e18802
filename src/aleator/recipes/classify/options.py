"""Image classification: the task on which most methods meet.

This file holds the options; `aleator.recipes.classify.task` holds the task. A method joins by a field here and one
branch where its part of the task is built there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aleator.recipes.images.options import ImageOptions
from aleator.recipes.parts.descent import TrainingOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams
    from aleator.recipes.classify.task import ClassificationTask


@dataclass(frozen=True)
class _Images(ImageOptions):
    """What is learned; a base of its own so that these come before the training options in the help."""

    augment: Literal["none", "flip", "crop", "flip-crop"] = "none"
    """Random horizontal flips; random crops of the image padded by 4 zero pixels."""

    # --- which examples a step sees
    batch_size: int = 32
    """Examples in an optimizer step, over all processes. A short last batch of a round is dropped."""
    rounds: int = 60
    """Passes over the training data, or over the subset when there is one."""
    subset: Literal["full", "static", "rs2", "rs2-with-replacement"] = "full"
    """All examples, one random subset, or a new one in every round, without or with replacement between rounds."""
    ratio: float = 1.0
    """Size of the subset as a fraction of the training data, in (0, 1]."""
    stratified: bool = False
    """Draw subsets with the classes in proportion."""

    # --- the model
    model: Literal["mlp", "mlp-without-bias", "mlp-normalised", "cnn", "cnn-bn", "resnet18", "vit", "vit-tiny"] = "mlp"
    """Fully connected (256, 256), (128, 128, 128) without biases, or (128, 128, 128, 128) with layer normalisation;
    two convolutions; three with batch normalisation; ResNet-18 for small images; vision transformers on patches of
    4 × 4, with 7 layers of width 384 or 4 of width 96."""
    rescale: float = 1.0
    """Multiply the weights of the first, third, … layer of mlp-without-bias by this, and divide those of the others:
    the function stays the same."""

    first_layer: Literal["plain", "tract"] = "plain"
    """Whether the first layer's weight has its ordinary gradient or TrAct's."""
    tract_lam: float = 0.1
    """λ of TrAct; smaller is bolder."""
    first_layer_lr_ratio: float = 1.0
    """Learning rate of the first layer, of its bias too, as a multiple of lr. Not for LAMB and LARS, in which a layer's
    step follows the length of its weights."""


@dataclass(frozen=True)
class Classify(TrainingOptions, _Images):
    """Classify images: full data, a static subset, or repeated random sampling, at any budget."""

    # --- target surrogates
    surrogate: int | None = None
    """Take so many steps of the optimizer on a target surrogate of every batch, instead of one on its loss. Learning
    rate and weight decay apply to each of them."""
    target_step_size: float | None = None
    """γ of the surrogates, the step in the space of the class scores. Default: 2, which is 1/L of the cross entropy."""

    # --- budget
    schedule_length: Literal["own", "full", "compressed"] = "own"
    """Over how many steps the schedule stretches: this run's own; those of a run on the full data for as many rounds;
    or those of the subset's run, to which a run on the full data is then cut too."""
    stop_at: int | None = None
    """End the run at this step, wherever its schedule is."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        super().__post_init__()
        self._check_positive("batch_size", "rounds", "rescale", "tract_lam", "first_layer_lr_ratio")
        self._check_positive("train_size", "validation_size", "test_size", "stop_at")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must be in (0, 1], got {self.ratio}")
        if self.rescale != 1 and self.model != "mlp-without-bias":
            raise ValueError(f"rescale must be 1 with model {self.model}, got {self.rescale}")
        if self.tract_lam != _Images.tract_lam and self.first_layer != "tract":
            raise ValueError(f"tract_lam must be left out with first_layer {self.first_layer}, got {self.tract_lam}")
        if self.first_layer_lr_ratio != 1 and self.optimizer in ("lamb", "lars"):
            got = self.first_layer_lr_ratio
            raise ValueError(f"first_layer_lr_ratio must be 1 with optimizer {self.optimizer}, got {got}")
        self._check_positive("surrogate", "target_step_size")
        if self.target_step_size is not None and self.surrogate is None:
            raise ValueError(f"target_step_size must be left out without surrogate, got {self.target_step_size}")
        if self.surrogate is not None:
            for name, value in (("accumulate", 1), ("max_grad_norm", None), ("shard", False)):
                if getattr(self, name) != value:
                    raise ValueError(f"{name} must be {value} with surrogate, got {getattr(self, name)}")
            if self.precision == "float16":
                raise ValueError("precision must be float32, float64 or bfloat16 with surrogate, got float16")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate must be at most batch_size, {self.batch_size}, got {self.accumulate}")

    def task(self, streams: Streams, accelerator: Accelerator) -> ClassificationTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        from aleator.recipes.classify.task import ClassificationTask

        return ClassificationTask(self, streams, accelerator)
