"""A learning rate and a momentum that are read off the curvature while training, in the place of given ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from aleator.recipes.parts.checks import refuse_unless
from aleator.recipes.parts.part import Act, Order, Part, Sizes

if TYPE_CHECKING:
    from torch import Tensor
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from aleator.optim import CurvatureLRScheduler
    from aleator.recipes.parts.run import Run

MOST_EXAMPLES = 4096
FEWEST_STEPS = 20


@dataclass(frozen=True)
class Curvature(Part):
    """Read the learning rate off the curvature."""

    lr_rule: Literal["fixed", "curvature"] = "fixed"
    """Whether SGD has the given learning rate and momentum or, without Nesterov's direction, those that probes of the
    curvature find: one probe in a round and in 20 steps at most, with a warmup over two of them. The schedule's factor,
    which ends at 0, is multiplied with it."""

    def check(self) -> None:
        """Check what can be checked without data."""
        refuse_unless(self.lr_rule == "fixed", "lr_rule curvature", self, *_without_effect(self))
        if self.lr_rule == "fixed":
            return
        for option, accepted in (("optimizer", "sgd"), ("first_layer", "plain"), ("shard", False), ("surrogate", None)):
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
    """Probes when it is time. The task is there only after the schedule has to be: `_Later` stands for it meanwhile."""

    def __init__(self, run: Run, hold: Literal["max", "none"]) -> None:
        if run.options.says("objective"):
            raise ValueError("lr_rule curvature cannot be used with an objective, which is no loss of outputs")
        self._run, self._hold = run, hold
        self._order: Order | None = None
        self._schedule: _Later | None = None

    def sized(self, order: Order) -> Sizes | None:
        self._order = order  # how long schedules are
        return None

    def scheduled(self, optimizer: Optimizer) -> LRScheduler:
        self._schedule = _Later(optimizer)
        return cast("LRScheduler", self._schedule)

    def started(self, task: Any) -> None:
        assert self._schedule is not None
        assert self._order is not None
        self._schedule.begin(task, self._run, self._order.schedule_steps, self._hold)

    def logged(self) -> Mapping[str, Tensor]:
        import torch

        assert self._schedule is not None
        learned = self._schedule.learned
        if learned.lmbda is None or learned.momentum is None:
            return {}
        return {"curvature": torch.tensor(learned.lmbda), "momentum": torch.tensor(learned.momentum)}


class _Later:
    """A `CurvatureLRScheduler` that is made when the task is there, and probes aside from the training step."""

    learned: CurvatureLRScheduler

    def __init__(self, optimizer: Optimizer) -> None:
        self._optimizer = optimizer

    def begin(self, task: Any, run: Run, total_steps: int, hold: Literal["max", "none"]) -> None:
        import torch.distributed as dist

        from aleator.optim import CurvatureLRScheduler
        from aleator.recipes.parts.probes import Called, MeanLoss, Sample

        options = run.options
        self._task = task
        generator = run.generator("curvature")
        with task.aside("curvature") as model:
            self.learned = CurvatureLRScheduler(
                self._optimizer,
                Called(model, options),
                MeanLoss(options, whole=options.accumulate == 1 and run.processes == 1),
                Sample(task, min(4 * options.batch_size, MOST_EXAMPLES), generator),
                every=max(FEWEST_STEPS, len(task.train) // options.batch_size),
                hold=hold,
                generator=generator,
                factor=Factor(options.schedule, total_steps, options.warmup_steps(total_steps)),
                group=dist.group.WORLD if run.processes > 1 else None,
            )

    def step(self) -> None:
        """Count a step; probe if it is time."""
        if self.learned.due:
            with self._task.aside("curvature"):
                self.learned.step()
        else:
            self.learned.step()

    def state_dict(self) -> dict[str, Any]:
        return self.learned.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.learned.load_state_dict(state)


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
