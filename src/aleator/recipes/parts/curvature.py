"""A learning rate and a momentum that are read off the curvature while training, in the place of given ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aleator.recipes.parts.checks import refuse_unless
from aleator.recipes.parts.part import Act, Order, Part, Sizes

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from aleator.recipes.parts.curvature_schedule import LaterSchedule
    from aleator.recipes.parts.run import Run


@dataclass(frozen=True)
class Curvature(Part):
    """Read the learning rate off the curvature."""

    card: ClassVar[str] = "rmt-lr"

    lr_rule: Literal["fixed", "curvature"] = "fixed"
    """Whether SGD has the given learning rate and momentum or, without Nesterov's direction, those that probes of the
    curvature find: one probe in a round and in 20 steps at most, with a warmup over two of them. The schedule's factor,
    which ends at 0, is multiplied with it."""

    def check(self) -> None:
        """Check what can be checked without data."""
        refuse_unless(self.lr_rule == "fixed", "lr_rule curvature", self, *_without_effect(self))
        if self.lr_rule == "fixed":
            return
        for option, accepted in (
            ("optimizer", "sgd"),
            ("first_layer", "plain"),
            ("shard", False),
            ("surrogate", None),
            ("batch_test", "none"),
        ):
            if (value := getattr(self, option, accepted)) != accepted:
                raise ValueError(f"lr_rule curvature cannot be used with {option} {value}")
        if getattr(self, "schedule", None) == "sasa":
            raise ValueError("lr_rule curvature cannot be used with schedule sasa: both say the learning rate")

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return the learner."""
        return [{"lr_rule": "curvature"}]

    def act(self, run: Run) -> Act | None:
        """Return the learner's act."""
        return self.learner(run)

    def learner(self, run: Run, hold: Literal["max", "none"] = "max") -> Act | None:
        """Return the act of a learner with this memory; None where the rate is given."""
        return None if self.lr_rule == "fixed" else _Learner(run, hold)


def _without_effect(options: Any) -> list[str]:
    return [name for name in ("lr", "momentum", "lr_min") if hasattr(options, name)]


class _Learner(Act):
    """Probes when it is time."""

    def __init__(self, run: Run, hold: Literal["max", "none"]) -> None:
        if run.options.says("objective"):
            raise ValueError("lr_rule curvature cannot be used with an objective, which is no loss of outputs")
        self._run, self._hold = run, hold
        self._order: Order | None = None
        self._schedule: LaterSchedule | None = None

    def sized(self, order: Order) -> Sizes | None:
        self._order = order  # how long schedules are
        return None

    def scheduled(self, optimizer: Optimizer) -> LRScheduler:
        from aleator.recipes.parts.curvature_schedule import LaterSchedule

        self._schedule = LaterSchedule(optimizer)
        return self._schedule

    def started(self, task: Any) -> None:
        assert self._schedule is not None
        assert self._order is not None
        options, steps = self._run.options, self._order.schedule_steps
        factor = Factor(options.schedule, steps, options.warmup_steps(steps))
        self._schedule.begin(task, self._run, factor, self._hold)

    def logged(self) -> Mapping[str, Tensor]:
        import torch

        assert self._schedule is not None
        learned = self._schedule.learned
        if learned.lmbda is None or learned.momentum is None:
            return {}
        return {"curvature": torch.tensor(learned.lmbda), "momentum": torch.tensor(learned.momentum)}


@dataclass(frozen=True)
class Factor:
    """What a schedule multiplies a rate by that is not known before; 0 after the last step, unless it is constant.

    Attributes:
        schedule: its name.
        total_steps: T.
        warmup: w, of the schedule's own.
    """

    schedule: str
    total_steps: int
    warmup: int

    def __call__(self, step: int) -> float:
        """Return the factor of a step, from 0."""
        from aleator.optim.large_batch.schedules import warmup_poly_factor
        from aleator.optim.schedules import cosine_factor

        if self.schedule == "constant":
            return 1.0
        if self.schedule == "linear":
            return warmup_poly_factor(step, self.total_steps, self.warmup, 1.0, "total")
        if step < self.warmup:
            return (step + 1) / (self.warmup + 1)
        return cosine_factor(step - self.warmup, self.total_steps - self.warmup)
