"""The protocol of a recipe: the few names that a task and the run loop agree on.

A *recipe* is a frozen dataclass whose fields are its options. Given the random streams and the accelerator of a run it
builds a *task*: a budget, batches, a training step, an evaluation, a state. That fits a batch of any size, an agent in
an environment, a network that never calls ``backward``, a sampler. The task owns its backward passes and optimizer
steps; the run loop owns time, files and signals.

This module imports nothing heavy, so that recipes can be listed and their options shown without loading torch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from accelerate import Accelerator
    from torch import Tensor

    from aleator.random import Streams

Split = Literal["validation", "test"]
Direction = Literal["max", "min"]
Precision = Literal["float32", "float64", "bfloat16", "float16"]


@dataclass(frozen=True)
class Budget:
    """How long a run lasts.

    Attributes:
        total: the amount at which the run is done; None runs until it is stopped.
        unit: what is counted: ``"steps"``, ``"examples"``, ``"environment steps"``, ``"rounds"``.
    """

    total: int | None
    unit: str = "steps"


@dataclass(frozen=True)
class Headline:
    """The metric that matters, and which direction is better."""

    name: str
    direction: Direction = "max"

    def better(self, a: float, b: float) -> bool:
        """Whether value ``a`` is strictly better than value ``b``."""
        return a > b if self.direction == "max" else a < b


@dataclass
class StepResult:
    """What one training step did.

    Attributes:
        metrics: 0-d tensors, read only when the loop logs, so that a step does not wait for the device. With several
            processes the loop reports their mean.
        progress: how far this step moved the run, in the budget's unit.
        examples: training examples this step consumed, over all processes.
        skipped: whether the step was skipped because its loss was not finite.
        stop: a reason to end the run after this step, or None.
    """

    metrics: Mapping[str, Tensor] = field(default_factory=dict)
    progress: int = 1
    examples: int = 0
    skipped: bool = False
    stop: str | None = None


@runtime_checkable
class Task(Protocol):
    """A training problem ready to run. All processes of a run hold one each.

    Attributes that the house reads, where a task has them: ``model`` (saved at the end as ``model.safetensors``),
    ``saved_models()`` (further models to save then, by the names of their files without ``.safetensors``, of letters,
    digits, '-' and '_'; not sharded, and the same on every process), ``evaluate_every`` (progress between evaluations),
    ``full_size`` (training examples there are without ``train_size``; a comparison of sizes forecasts the headline
    there), ``totals()`` (numbers by name that are logged with training metrics as they are, such as counts since the
    beginning, and not as means over steps), ``begin()`` (called once before the first batch, when a state was loaded if
    there is one; a ``ValueError`` is bad input), ``stop_requested`` (replaced by a function that says whether the run
    was asked to stop, for a step that waits: it may return with progress 0), ``test_examples()`` (the headline of the
    evaluation on test data example by example: a pair of 1-d tensors, values and counts, such that the headline is the
    ratio of their sums; None where it is no such mean. It is called on every process, once, after that evaluation, and
    returns this process's share, each ``processes``-th example from its rank) and ``exhibits()``, which returns a
    sequence of `Exhibit`; it is called on every process, once, after the result is written.
    """

    budget: Budget
    headline: Headline

    def train_batches(self) -> Iterator[Any]:
        """Yield batches without end, from the first one not yet consumed.

        After ``load_state_dict`` that is the batch after the last one given to ``train_step``, whatever was prefetched.
        """
        ...

    def train_step(self, batch: Any) -> StepResult:
        """Learn from one batch."""
        ...

    def evaluate(self, split: Split) -> Mapping[str, float]:
        """Metrics on held-out data. ``"validation"`` during training; ``"test"`` once, at the end."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Everything that training changes, as nested containers of tensors, numbers, strings, None."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue exactly where ``state_dict`` was called."""
        ...


@runtime_checkable
class Recipe(Protocol):
    """A frozen dataclass whose fields are the options of a task.

    Fields that the house reads, where a recipe has them: ``precision`` (a `Precision`, handed to the accelerator) and
    ``train_size`` (set by ``aleator compare --sizes``; sizes are nested subsets).
    """

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task. Raise ``ValueError`` for options that cannot work, before anything is computed."""
        ...
