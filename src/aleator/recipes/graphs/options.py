"""Graphs and molecules made by GDSS, next to random graphs and networks that learned nothing.

This file holds the options, `aleator.recipes.graphs.settings` the authors' settings for each data set and smaller ones,
`aleator.recipes.graphs.task` the task.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aleator.experiment import Task
from aleator.later import named
from aleator.recipes.graphs.settings import MOLECULES, PUBLISHED, REDUCED, GraphSettings
from aleator.recipes.parts.checks import refuse_unless

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams


@dataclass(frozen=True)
class Graphs:
    """Generate graphs or molecules by a system of SDEs for node features and edges (GDSS)."""

    # --- data
    data: Literal["community-small", "ego-small", "enzymes", "grid", "qm9", "zinc250k"] = "community-small"
    """The data set; the last two are molecules."""
    train_size: int | None = None
    """Use only the first N training graphs."""

    # --- the model
    model: Literal["gdss", "untrained", "random"] = "gdss"
    """GDSS; its networks as they were drawn; or random graphs with the nodes and the number of edges of training
    graphs."""
    coupling: Literal["joint", "independent"] = "joint"
    """Whether each network sees the whole noisy graph, or its own part alone."""
    settings: Literal["reduced", "published"] = "reduced"
    """Sizes of the networks, processes and sampler: for a laptop, or the authors' for this data set."""

    # --- training
    steps: int | None = None
    """Optimizer steps. Default: 600, or with the published settings as many as the authors'."""
    batch_size: int | None = None
    """Graphs in a step, over all processes; all of them where there are fewer. Default: as the settings say."""
    lr: float | None = None
    """Learning rate of Adam. Default: as the settings say."""
    schedule: Literal["cosine", "exponential", "constant"] | None = None
    """Of the learning rate: down to 0, times 0.999 after each pass over the data, or none. Default: cosine, or with the
    published settings exponential."""

    # --- generating
    samples: int = 200
    """Graphs that are generated for the test."""
    validation_samples: int = 40
    """Graphs that are generated for a validation."""
    solver: Literal["euler", "euler-langevin", "ancestral-langevin", "s4"] | None = None
    """How the system is solved backwards. Default: as the settings say."""
    sampling_steps: int | None = None
    """Steps of the solver. Default: 500, or with the published settings 1000."""
    snr: float | None = None
    """Signal-to-noise ratio of the Langevin correction. Default: as the settings say."""
    scale_eps: float | None = None
    """Scale of the noise of the Langevin correction. Default: as the settings say."""
    average_weights: bool | None = None
    """Generate with the running mean of the weights. Default: as the settings say."""
    convention: Literal["emd", "tv"] = "emd"
    """Kernels of the discrepancies, as in GraphRNN and GDSS, or as in DiGress. Figures of one say nothing about figures
    of the other."""

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("train_size", "steps", "batch_size", "samples", "validation_samples", "sampling_steps"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if self.lr is not None and not 0 < self.lr < math.inf:
            raise ValueError(f"lr must be positive and finite, got {self.lr}")
        for name in ("snr", "scale_eps"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if self.model == "random" and self.molecules:
            raise ValueError(f"model must be gdss or untrained with data {self.data}, got random")
        sampled = ("solver", "sampling_steps", "snr", "scale_eps", "average_weights")
        refuse_unless(self.model != "random", "model random", self, *sampled)
        refuse_unless(self.model == "gdss", f"model {self.model}", self, "lr", "schedule")
        if self.model == "random" and self.coupling != "joint":
            raise ValueError(f"coupling cannot be used with model random, got {self.coupling}")

    @property
    def molecules(self) -> bool:
        """Whether the data are molecules."""
        return self.data in MOLECULES

    @property
    def chosen(self) -> GraphSettings:
        """The settings with the options that were given in their place."""
        settings = (PUBLISHED if self.settings == "published" else REDUCED)[self.data]
        names = ("batch_size", "lr", "schedule", "solver", "sampling_steps", "snr", "scale_eps", "average_weights")
        return settings.with_options({name: getattr(self, name) for name in names})

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        build = named("aleator.recipes.graphs.task:GenerationTask")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]
