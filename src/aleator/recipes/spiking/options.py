"""Images classified by a spiking network that learns without backpropagation, next to two networks that need it.

This file holds the options; `aleator.recipes.spiking.task` holds the task of the spiking network,
`aleator.recipes.spiking.references` the task of the networks it is compared with. Settings are the authors', except for
the size: 100 hidden cells learn the digits in seconds. Digits are enlarged to 24 × 24 pixels, since 64 inputs do not
drive the cells enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aleator.experiment import Task
from aleator.later import named
from aleator.recipes.images.options import ExampleOptions
from aleator.recipes.parts.checks import positive, refuse_unless

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams

Part = Literal["nothing", "input_scaling", "class_scaling", "adaptive_threshold", "lateral_inhibition", "symmetry"]

# Options that only one kind of model has, with the default that says they were left alone.
_OF_STDP = {
    "preset": None,
    "theta_decay": "exact",
    "engine": "event",
    "schedule": "simultaneous",
    "readout": "sl",
    "without": "nothing",
}


@dataclass(frozen=True)
class Spiking(ExampleOptions):
    """Classify images by spikes and symmetric STDP, without backpropagation; two networks with it for comparison."""

    data: Literal["digits", "mnist", "fashion-mnist"] = "digits"
    """The data set."""
    epochs: int = 1
    """Passes over the training data, for each projection in turn when the schedule is layerwise."""

    # --- the network
    model: Literal["stdp", "mlp", "surrogate-snn"] = "stdp"
    """Spikes and symmetric STDP; or, of the same size and trained by backpropagation, a rectifier network, or
    integrate-and-fire cells with a surrogate for the derivative of their threshold."""
    hidden: int = 100
    """Hidden cells."""

    # --- symmetric STDP
    preset: str | None = None
    """The authors' constants for a data set and a size, such as hao2019-mnist-400. Default: those for the data set and
    the size next to this one."""
    theta_decay: Literal["exact", "none"] = "exact"
    """Whether the adaptive thresholds decay, or never do, as in the authors' single-precision program where their time
    constant is 2e7 ms or more."""
    engine: Literal["event", "dense", "private", "frozen"] = "event"
    """Every sample after the other, by events or by time steps; or samples of a batch together, each learning on its
    own copy of the weights, or all on weights that stay fixed."""
    schedule: Literal["simultaneous", "layerwise"] = "simultaneous"
    """Learn both projections together, or first the hidden layer and then the class cells."""
    readout: Literal["sl", "assignment"] = "sl"
    """The answer that counts as the accuracy: the class cells', or the hidden cells' by the classes they are for."""
    without: Part = "nothing"
    """Take a part of the method out."""

    # --- learning in batches
    batch_size: int | None = None
    """Samples that learn together, over all processes, with the engines private and frozen and with backpropagation,
    by default 32."""
    lr: float | None = None
    """Learning rate of Adam, which the two networks with backpropagation use, by default 0.001."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("epochs", "batch_size", "train_size", "validation_size", "test_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.hidden < 2:
            raise ValueError(f"hidden must be at least 2, got {self.hidden}")
        positive(self, "lr")
        refuse_unless(self.model != "stdp", "model stdp", self, "lr")
        refuse_unless(self.learns_in_batches, f"engine {self.engine}", self, "batch_size")
        if self.model != "stdp":
            for name, value in _OF_STDP.items():
                if getattr(self, name) != value:
                    raise ValueError(f"{name} must be {value} with model {self.model}, got {getattr(self, name)}")
        if self.theta_decay == "none" and self.without == "adaptive_threshold":
            raise ValueError("theta_decay must be exact without adaptive_threshold, which never decays, got none")
        from aleator.spiking import preset

        preset(self.preset_name)

    @property
    def learns_in_batches(self) -> bool:
        """Whether samples of a batch learn together, and not one after the other."""
        return self.model != "stdp" or self.engine in ("private", "frozen")

    @property
    def samples_together(self) -> int:
        """Samples of a batch."""
        return 32 if self.batch_size is None else self.batch_size

    @property
    def preset_name(self) -> str:
        """The preset, chosen or by default."""
        if self.preset is not None:
            return self.preset
        if self.data == "fashion-mnist":
            return f"hao2019-fashion-{_nearest(self.hidden, (400, 6400))}"
        return f"hao2019-mnist-{_nearest(self.hidden, (100, 400, 1600, 6400, 10000))}"

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        task = "task:PlasticityTask" if self.model == "stdp" else "references:ReferenceTask"
        build = named(f"aleator.recipes.spiking.{task}")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]


def _nearest(size: int, sizes: tuple[int, ...]) -> int:
    """The size that differs from this one by the smallest factor."""
    return min(sizes, key=lambda other: max(size / other, other / size))
