"""Options that recipes share: how a gradient becomes a step, on which schedule, in which arithmetic.

A recipe inherits them, so that they are plain flags of it (``--optimizer lamb --lr 0.02``). What they mean is built in
`aleator.recipes.parts.optimizers`; which optimizers there are says `aleator.recipes.parts.rows`. Options that only some
optimizers or schedules have are None by default, which leaves them to these, and are refused for the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import tyro

from aleator.experiment import Precision
from aleator.recipes.parts.checks import not_negative, positive, refuse_unless
from aleator.recipes.parts.part import Part, parts_with_arms
from aleator.recipes.parts.rows import (
    OPTIMIZER_METHODS,
    OPTIMIZERS,
    SCHEDULES,
    Optimizer,
    Schedule,
    listed,
    rates,
)

_OPTIMIZERS = f"How a gradient becomes a step: {listed([row.says for row in OPTIMIZERS.values()])}."
_SCHEDULES = "Over T steps, the first w of them a warmup: " + "; ".join(row.says for row in SCHEDULES.values()) + "."

OptimizerOption = Annotated[Optimizer, tyro.conf.arg(help=_OPTIMIZERS)]
LrOption = Annotated[float | None, tyro.conf.arg(help=f"Learning rate at its highest. Default: {rates({})}.")]
ScheduleOption = Annotated[Schedule, tyro.conf.arg(help=_SCHEDULES)]


@dataclass(frozen=True)
class TrainingOptions(Part):
    """What every recipe with one optimizer has."""

    # What is meant by an option that was not given, where a recipe has defaults of its own.
    own_lr: ClassVar[Mapping[str, float]] = {}
    own_warmup: ClassVar[float] = 0
    own_lr_min: ClassVar[float | None] = None
    counts_examples: ClassVar[bool] = False
    own_momentum: ClassVar[Mapping[str, float]] = {}

    # --- how a gradient becomes a step
    optimizer: OptimizerOption = "sgd"
    lr: LrOption = None
    momentum: float | None = None
    """Of SGD, proximal-sgd and LARS, by default 0.9, and of Signum, by default 0.95."""
    betas: tuple[float, ...] | None = None
    """Decay rates of the running means of AdamW, LAMB and MARS (two) and AdEMAMix (three). Default: the optimizer's."""
    weight_decay: float = 5e-4
    """Applied to every parameter; by LAMB and LARS only to those that they adapt, which have two or more dimensions."""
    clip: float | None = None
    """Threshold of SPECTRA for the singular values of an update, by default 10. What has to be tuned is clip times lr,
    which stays the same in the warmup."""
    apply_to: Literal["all", "matrices"] | None = None
    """Whether SPECTRA clips all parameters, the default, or only matrices: parameters of two or more dimensions."""
    max_grad_norm: float | None = None
    """Clip the gradient to this 2-norm."""
    accumulate: int = 1
    """Cut every batch into this number of pieces, to save memory. The step is the same."""

    # --- schedule
    schedule: ScheduleOption = "cosine"
    lr_min: float | None = None
    """Where the cosine ends. Default: lr/500."""
    warmup: float | None = None
    """Steps in which the learning rate first rises, see schedule; below 1, a share of all steps. Default: 0."""

    # --- numbers
    precision: Precision = "float32"
    """Arithmetic; bfloat16 and float16 are mixed precision."""
    shard: bool = False
    """Shard weights and optimizer state over the processes with FSDP2. One process has nothing to share out."""

    def check(self) -> None:
        """Check what can be checked without data."""
        row, schedule = OPTIMIZERS[self.optimizer], SCHEDULES[self.schedule]
        positive(self, "lr", "clip", "max_grad_norm", "accumulate")
        not_negative(self, "weight_decay", "lr_min", "warmup")
        if self.warmup and self.warmup > 1 and self.warmup % 1:
            raise ValueError(f"warmup must be a whole number of steps, or a share below 1, got {self.warmup}")
        refuse_unless("lr_min" in schedule.owns, f"schedule {self.schedule}", self, "lr_min")
        refuse_unless("warmup" in schedule.owns or not self.warmup, f"schedule {self.schedule}", self, "warmup")
        for name in ("momentum", "betas", "clip", "apply_to"):
            refuse_unless(name in row.owns, f"optimizer {self.optimizer}", self, name)
        if "sgd" in schedule.needs and self.optimizer != "sgd":
            raise ValueError(f"schedule {self.schedule} cannot be used with optimizer {self.optimizer}")
        if (raw := self.raw_gradient) is not None and self.max_grad_norm is not None:
            raise ValueError(f"max_grad_norm cannot be used with {raw}, got {self.max_grad_norm}")
        if "prox" in row.paced and not hasattr(self, "prox"):
            raise ValueError(f"optimizer {self.optimizer} cannot be used in a recipe that has no option prox")
        if "n_data" in row.paced and not self.counts_examples:
            raise ValueError(f"optimizer {self.optimizer} cannot be used in a recipe whose examples are not counted")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")
        if self.betas is not None and not (len(self.betas) == row.betas and all(0 <= beta < 1 for beta in self.betas)):
            raise ValueError(f"betas must be {row.betas} numbers in [0, 1) with {self.optimizer}, got {self.betas}")

    def arms_by_part(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """Return for each part, and for each other optimizer, the settings worth a trial, the paper's first."""
        parts = {name: part.arms(self) for name, part in parts_with_arms(type(self)).items()}
        # What was given for this optimizer is not what another one wants.
        usual = dict.fromkeys(("lr", "momentum", "betas", "clip", "apply_to"))
        others = {
            method: [{"optimizer": name, **usual} for name in names if name in OPTIMIZERS]
            for method, names in OPTIMIZER_METHODS.items()
            if self.optimizer not in names
        }
        return parts | others

    def applies_by_part(self, task: Any) -> dict[str, tuple[bool, str]]:
        """Return for each part, by its name, whether it can be used on a task of this recipe, and why not."""
        return {name: part.applies(self, task) for name, part in parts_with_arms(type(self)).items()}

    @property
    def raw_gradient(self) -> str | None:
        """What steps along the gradient as it is, or None: clipping and its like cannot be used with that."""
        if "raw gradient" in SCHEDULES[self.schedule].needs:
            return f"schedule {self.schedule}"
        return f"optimizer {self.optimizer}" if "raw gradient" in OPTIMIZERS[self.optimizer].needs else None

    @property
    def peak_lr(self) -> float:
        """The learning rate at its highest."""
        if self.lr is not None:
            return self.lr
        for part in type(self).__mro__:
            if issubclass(part, Part) and "usual_lr" in vars(part) and (rate := part.usual_lr(self)) is not None:
                return rate
        return self.own_lr.get(self.optimizer, OPTIMIZERS[self.optimizer].lr)

    def warmup_steps(self, total_steps: int) -> int:
        """Return how many steps of a schedule over ``total_steps`` are its warm-up."""
        if self.schedule == "constant":
            return 0
        warmup = self.own_warmup if self.warmup is None else self.warmup
        return round(warmup * total_steps) if warmup < 1 else int(warmup)
