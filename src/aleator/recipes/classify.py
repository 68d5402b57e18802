"""Image classification: the task on which most methods meet.

This file holds the options; `aleator.recipes.classification` holds the task. A method joins by a field here and one
branch where its part of the task is built there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aleator.experiment import Precision

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams
    from aleator.recipes.classification import ClassificationTask


@dataclass(frozen=True)
class Classify:
    """Classify images: full data, a static subset, or repeated random sampling, at any budget."""

    # --- data
    data: Literal["digits", "mnist", "fashion-mnist", "cifar10"] = "digits"
    """The data set."""
    train_size: int | None = None
    """Use so many training examples, drawn anew for each seed; a smaller set is part of a larger one."""
    validation_size: int | None = None
    """Training examples set apart for validation, the same for every seed. Default: a tenth of the training data."""
    test_size: int | None = None
    """Use only the first so many test examples."""
    inputs: Literal["standardised", "unit"] = "standardised"
    """Pixels with mean 0 and deviation 1 over the training data, or between 0 and 1."""
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
    model: Literal["mlp", "mlp-without-bias", "mlp-normalised", "cnn", "resnet18", "vit", "vit-tiny"] = "mlp"
    """Fully connected (256, 256), (128, 128, 128) without biases, or (128, 128, 128, 128) with layer normalisation;
    two convolutions; ResNet-18 for small images; vision transformers on patches of 4 × 4, with 7 layers of width 384 or
    4 of width 96."""
    rescale: float = 1.0
    """Multiply the weights of the first, third, … layer of mlp-without-bias by this, and divide those of the others:
    the function stays the same."""

    first_layer: Literal["plain", "tract"] = "plain"
    """Whether the first layer's weight has its ordinary gradient or TrAct's."""
    tract_lam: float = 0.1
    """λ of TrAct; smaller is bolder."""

    # --- how a gradient becomes a step
    optimizer: Literal["sgd", "adamw", "lamb", "lars"] = "sgd"
    """SGD with Nesterov momentum, AdamW, LAMB, or LARS as Algorithm 1 of the LAMB paper."""
    lr: float = 0.05
    """Learning rate at its highest."""
    momentum: float = 0.9
    """Of SGD and LARS."""
    weight_decay: float = 5e-4
    """Applied to every parameter; by LAMB and LARS only to those that they adapt, which have two or more dimensions."""
    max_grad_norm: float | None = None
    """Clip the gradient to this 2-norm."""
    accumulate: int = 1
    """Cut every batch into so many pieces, to save memory. The step is the same."""

    # --- schedule and budget
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Cosine from lr to lr_min in every step, a straight line to zero, or constant."""
    lr_min: float = 1e-4
    """Where the cosine ends."""
    warmup: int = 0
    """Steps over which the learning rate first rises to lr, unless it is constant."""
    schedule_length: Literal["own", "full", "compressed"] = "own"
    """Over how many steps the schedule stretches: this run's own; those of a run on the full data for as many rounds;
    or those of the subset's run, to which a run on the full data is then cut too."""
    stop_at: int | None = None
    """End the run at this step, wherever its schedule is."""

    # --- numbers
    precision: Precision = "float32"
    """Arithmetic; bfloat16 and float16 are mixed precision."""
    shard: bool = False
    """Shard weights and optimizer state over the processes with FSDP2. One process has nothing to share out."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        positive = ("batch_size", "rounds", "lr", "accumulate", "rescale", "tract_lam")
        for name in (*positive, "train_size", "validation_size", "test_size", "stop_at", "max_grad_norm"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name in ("weight_decay", "lr_min", "warmup"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if not 0 < self.ratio <= 1:
            raise ValueError(f"ratio must be in (0, 1], got {self.ratio}")
        if self.rescale != 1 and self.model != "mlp-without-bias":
            raise ValueError(f"rescale must be 1 with model {self.model}, got {self.rescale}")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate must be at most batch_size, {self.batch_size}, got {self.accumulate}")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")

    def task(self, streams: Streams, accelerator: Accelerator) -> ClassificationTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        from aleator.recipes.classification import ClassificationTask

        return ClassificationTask(self, streams, accelerator)
