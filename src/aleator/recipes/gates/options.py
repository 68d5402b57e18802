"""Conditional computation: images classified by a wide layer of which a gater opens a few units for each example.

This file holds the options; `aleator.recipes.gates.task` holds the task. The defaults are those of the paper, with a
network the size of the digits; for MNIST it has ``--experts 2000 --gater-hidden 400``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from aleator.recipes.images.options import ImageOptions
from aleator.recipes.parts.descent import TrainingOptions

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams
    from aleator.recipes.gates.task import GatingTask


@dataclass(frozen=True)
class _GatedNetwork(ImageOptions):
    """What is learned; a base of its own so that these come before the training options in the help."""

    batch_size: int = 32
    """Examples in an optimizer step, over all processes. A short last batch of a round is dropped."""
    rounds: int = 60
    """Passes over the training data."""

    # --- the network
    gate: Literal["st", "st-identity", "relaxed", "reinmax", "sts", "sbn", "noisy-relu", "relu", "none", "dense"] = "st"
    """Random gates by their gradient: straight-through with the sigmoid's derivative or without, through a relaxation,
    ReinMax, stochastic times smooth, REINFORCE; or rectifiers with noise or without. None: all experts, which is a
    linear network. Dense: as many experts as would be open, all of them, times sigmoids."""
    experts: int = 200
    """Units of the wide layer."""
    gater_hidden: int = 40
    """Hidden units of the gater."""
    block: int = 1
    """Experts that share a gate; from 16 on those that are shut are skipped. Without effect on none and dense."""
    sparsity: float = 0.1
    """Share of the gates that are to be open."""
    penalty: float | None = None
    """Weight of the penalty on open gates, a sum over the gates. By default 0.01, or 1e-5 for rectifiers, where it is
    moved after every step. Without effect on none and dense."""
    gater_lr_ratio: float = 1.0
    """The learning rate of the gater, divided by that of the rest. With 0 it stays as it was drawn."""
    max_norm: float | None = 2.0
    """After every step bound the norm of each unit's incoming weights."""


@dataclass(frozen=True)
class Gates(TrainingOptions, _GatedNetwork):
    """Classify images with few open units of many: estimators of the gradient of gates, at any sparsity."""

    lr: float = 0.1
    momentum: float | None = None
    """Of SGD, by default 0 here; of LARS, by default 0.9, and of Signum, by default 0.95."""
    weight_decay: float = 0.0
    schedule: Literal["cosine", "linear", "constant"] = "constant"
    lr_min: float = 0.0

    def __post_init__(self) -> None:
        """Check what can be checked without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        super().__post_init__()
        self._check_positive("train_size", "validation_size", "test_size", "batch_size", "rounds")
        self._check_positive("experts", "gater_hidden", "block", "max_norm")
        if not 0 < self.sparsity < 1:
            raise ValueError(f"sparsity must be in (0, 1), got {self.sparsity}")
        if self.experts % self.block:
            raise ValueError(f"block must divide experts, {self.experts}, got {self.block}")
        for name in ("penalty", "gater_lr_ratio"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {value}")
        if self.accumulate != 1:  # the penalty is no mean over examples
            raise ValueError(f"accumulate must be 1 in the recipe gates, got {self.accumulate}")
        if self.shard:
            raise ValueError("shard must be False in the recipe gates, got True")

    def task(self, streams: Streams, accelerator: Accelerator) -> GatingTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        from aleator.recipes.gates.task import GatingTask

        return GatingTask(self, streams, accelerator)
