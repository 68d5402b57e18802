"""Options that recipes share: how a gradient becomes a step, on which schedule, in which arithmetic.

A recipe inherits them, so that they are plain flags of it (``--optimizer lamb --lr 0.02``). What they mean is built in
`aleator.recipes.parts.optimizers`. Options that only some optimizers have are None by default, which leaves them to the
optimizer, and are refused for the others.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from aleator.experiment import Precision

Optimizer = Literal[
    "sgd",
    "adamw",
    "lamb",
    "lars",
    "signum",
    "spectra-adamw",
    "spectra-signum",
    "spectra-ademamix",
    "spectra-mars",
]

# The optimizers that have an option which others lack.
_SPECTRA = ("spectra-adamw", "spectra-signum", "spectra-ademamix", "spectra-mars")
_OWNERS = {
    "momentum": ("sgd", "lars", "signum", "spectra-signum"),
    "betas": ("adamw", "lamb", "spectra-adamw", "spectra-ademamix", "spectra-mars"),
    "clip": _SPECTRA,
    "apply_to": _SPECTRA,
}


@dataclass(frozen=True)
class TrainingOptions:
    """What every recipe with one optimizer has."""

    # What is meant by an option that was not given, where that depends on the others. The rates were good in one pilot
    # run each, on the default data of the recipe.
    own_lr: ClassVar[Mapping[Optimizer, float]] = {
        "sgd": 0.05,
        "adamw": 0.001,
        "lamb": 0.01,
        "lars": 0.01,
        "signum": 0.0003,
        "spectra-adamw": 0.003,
        "spectra-signum": 0.001,
        "spectra-ademamix": 0.003,
        "spectra-mars": 0.003,
    }
    own_warmup: ClassVar[float] = 0

    # --- how a gradient becomes a step
    optimizer: Optimizer = "sgd"
    """SGD with Nesterov momentum, AdamW, LAMB, LARS as Algorithm 1 of the LAMB paper, the sign of a Nesterov momentum,
    or SPECTRA around AdamW, Signum, AdEMAMix or MARS."""
    lr: float | None = None
    """Learning rate at its highest. Default: 0.05 for SGD, 0.01 for LAMB and LARS, 0.003 for SPECTRA around AdamW,
    AdEMAMix and MARS, 0.001 for AdamW and SPECTRA around Signum, 0.0003 for Signum."""
    momentum: float | None = None
    """Of SGD and LARS, by default 0.9, and of Signum, by default 0.95."""
    betas: tuple[float, ...] | None = None
    """Decay rates of the running means of AdamW, LAMB and MARS (two) and AdEMAMix (three). Default: the optimizer's."""
    weight_decay: float = 5e-4
    """Applied to every parameter; by LAMB and LARS only to those that they adapt, which have two or more dimensions."""
    clip: float | None = None
    """Threshold of SPECTRA for the singular values of an update, by default 10. What has to be tuned is clip times lr,
    which stays the same in the warmup."""
    apply_to: Literal["all", "matrices"] | None = None
    """Whether SPECTRA clips all parameters, the default, or only those of two or more dimensions."""
    max_grad_norm: float | None = None
    """Clip the gradient to this 2-norm."""
    accumulate: int = 1
    """Cut every batch into so many pieces, to save memory. The step is the same."""

    # --- schedule
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    """Over T steps, the first w of them a warmup: a cosine from lr to lr_min in the T - w others, after lr t/(w + 1) in
    step t of the warmup; linear, which is lr t/w in the warmup and then lr (1 - (t - 1)/T), a line to zero that begins
    at lr (1 - w/T); or constant, without a warmup."""
    lr_min: float | None = None
    """Where the cosine ends. Default: lr/500."""
    warmup: float | None = None
    """Steps in which the learning rate first rises, see schedule; below 1, a share of all steps. Default: 0."""

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
        self._check_positive("lr", "clip", "max_grad_norm", "accumulate")
        for name in ("weight_decay", "lr_min", "warmup"):
            if not 0 <= (getattr(self, name) or 0) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if self.warmup and self.warmup > 1 and self.warmup % 1:
            raise ValueError(f"warmup must be a whole number of steps, or a share below 1, got {self.warmup}")
        if self.warmup and self.schedule == "constant":
            raise ValueError(f"warmup must be left out with schedule constant, got {self.warmup}")
        for name, owners in _OWNERS.items():
            if getattr(self, name) is not None and self.optimizer not in owners:
                raise ValueError(f"{name} must be left out with optimizer {self.optimizer}, got {getattr(self, name)}")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        number = 3 if self.optimizer == "spectra-ademamix" else 2
        if self.betas is not None and not (len(self.betas) == number and all(0 <= beta < 1 for beta in self.betas)):
            raise ValueError(f"betas must be {number} numbers in [0, 1) with {self.optimizer}, got {self.betas}")

    @property
    def peak_lr(self) -> float:
        """The learning rate at its highest."""
        return self.own_lr[self.optimizer] if self.lr is None else self.lr

    def warmup_steps(self, total_steps: int) -> int:
        """Return how many steps of a schedule over ``total_steps`` are its warm-up."""
        if self.schedule == "constant":
            return 0
        warmup = self.own_warmup if self.warmup is None else self.warmup
        return round(warmup * total_steps) if warmup < 1 else int(warmup)

    def _check_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
