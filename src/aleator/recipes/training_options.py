"""Options that recipes share: how a gradient becomes a step, on which schedule, in which arithmetic.

A recipe inherits them, so that they are plain flags of it (``--optimizer lamb --lr 0.02``). What they mean is built in
`aleator.recipes.training`. Options that only some optimizers have are None by default, which leaves them to the
optimizer, and are refused for the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

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

    # --- how a gradient becomes a step
    optimizer: Optimizer = "sgd"
    """SGD with Nesterov momentum, AdamW, LAMB, LARS as Algorithm 1 of the LAMB paper, the sign of a Nesterov momentum,
    or SPECTRA around AdamW, Signum, AdEMAMix or MARS."""
    lr: float = 0.05
    """Learning rate at its highest."""
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
    """Cosine from lr to lr_min in every step, a straight line to zero, or constant."""
    lr_min: float = 1e-4
    """Where the cosine ends."""
    warmup: float = 0
    """Steps over which the learning rate first rises to lr, unless it is constant; below 1, a share of all steps."""

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
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be finite and not negative, got {getattr(self, name)}")
        if self.warmup > 1 and self.warmup % 1:
            raise ValueError(f"warmup must be a whole number of steps, or a share below 1, got {self.warmup}")
        for name, owners in _OWNERS.items():
            if getattr(self, name) is not None and self.optimizer not in owners:
                raise ValueError(f"{name} must be left out with optimizer {self.optimizer}, got {getattr(self, name)}")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        number = 3 if self.optimizer == "spectra-ademamix" else 2
        if self.betas is not None and not (len(self.betas) == number and all(0 <= beta < 1 for beta in self.betas)):
            raise ValueError(f"betas must be {number} numbers in [0, 1) with {self.optimizer}, got {self.betas}")

    def warmup_steps(self, total_steps: int) -> int:
        """Return how many steps of a schedule over ``total_steps`` are its warm-up."""
        return round(self.warmup * total_steps) if self.warmup < 1 else int(self.warmup)

    def _check_positive(self, *names: str) -> None:
        for name in names:
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
