"""A method as tasks use it: options that a recipe inherits, and what it does and remembers in one run.

A `Part` is a frozen dataclass among the bases of a recipe, so that its fields are plain flags. Its `Act` is made anew
for every run and has a place in each phase of training, in which it does nothing unless it says so. Phases come in a
fixed order; inside a phase acts come in the order of their parts' names, never of the base classes.

This module imports nothing heavy: the options of a recipe are shown without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer
    from torch.optim.lr_scheduler import LRScheduler

    from aleator.experiment import Split
    from aleator.experiment.gradient_step import ExampleSchedule, GradientReport
    from aleator.recipes.parts.batch import Batch, Examples
    from aleator.recipes.parts.run import Run

# What a descent may honour, and what a part, an option, an optimizer or a schedule may need.
CAPABILITIES = ("clip", "accumulate", "scaler", "shard", "piece", "observe", "transform", "optimizer", "weights")


@runtime_checkable
class Sampler(Protocol):
    """What says which examples a step sees, and has a position."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        ...


@dataclass(frozen=True)
class Order:
    """Which example is next, and how long a run is.

    Attributes:
        sampler: holds the position.
        batches: yields this process's indices of a batch, pass after pass and without end.
        steps: of the run.
        schedule_steps: over which schedules stretch.
    """

    sampler: Sampler
    batches: Callable[[int], Iterator[Any]]
    steps: int
    schedule_steps: int


@dataclass(frozen=True)
class Sizes:
    """How many examples are in a batch, where that changes: the budget of the run is then in examples.

    Attributes:
        sampler: holds the position, in the place of the order's.
        batches: yields this process's indices of a batch, until there were as many examples as the run has.
        pieces: returns into how many pieces a batch of N examples, over all processes, is cut on each process.
        examples: of the run.
    """

    sampler: Sampler
    batches: Callable[[], Iterator[Any]]
    pieces: Callable[[int], int]
    examples: int


@runtime_checkable
class Descent(Protocol):
    """What turns a batch into a step when plain backward passes do not.

    Attributes:
        honours: which of `CAPABILITIES` it has a place for.
    """

    honours: frozenset[str]

    def __call__(self, batch: Batch) -> tuple[GradientReport, Mapping[str, Tensor]]:
        """Learn from a batch; return what was done and more to be logged."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what it remembers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        ...


@dataclass(frozen=True)
class Part:
    """The options of a method. A part that has a subclass among a recipe's bases is left out: nothing runs twice.

    A class variable ``card`` names the method's card, and gives its options a panel of their own in the help.
    """

    def __post_init__(self) -> None:
        """Check the options of all parts.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for part in checks_of(type(self)):
            part.check(self)

    def check(self) -> None:
        """Refuse what can be refused without data.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """

    def applies(self, task: Any) -> tuple[bool, str]:
        """Whether the method can be used on a task, and why not."""
        return True, ""

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return settings of its options that are worth a trial, the paper's first."""
        return ()

    def usual_lr(self) -> float | None:
        """Return the learning rate where none is given, if the method needs one of its own."""
        return None

    def replaces_backward(self) -> Mapping[str, frozenset[str]]:
        """Return what takes the place of plain backward passes, by its name, and which `CAPABILITIES` it honours."""
        return {}

    def act(self, run: Run) -> Act | None:
        """Return what the method does in a run; None where it is switched off."""
        return None


class Act:
    """What a method does and remembers in one run. Every default changes nothing."""

    # --- once, in this order

    def kept(self, train: Examples) -> Tensor | None:
        """Return the indices of the training examples that are kept; None keeps all. One act may answer."""
        return None

    def ordered(self, train: Examples) -> Order | None:
        """Return which of the kept examples is next. One act may answer."""
        return None

    def sized(self, order: Order) -> Sizes | None:
        """Return how many examples a batch has. One act may answer."""
        return None

    def wrapped(self, network: nn.Module) -> nn.Module:
        """Return the network, or another around its layers. What torch draws here is a stream of the part's own."""
        return network

    def lr_ratio(self, name: str) -> float:
        """Return by what the learning rate is multiplied for a parameter of this name."""
        return 1.0

    def optimized(self, optimizer: Optimizer) -> Optimizer:
        """Return the optimizer, or another around it."""
        return optimizer

    def scheduled(self, optimizer: Optimizer) -> LRScheduler | ExampleSchedule | None:
        """Return the schedule of the learning rate. One act may answer."""
        return None

    def descent(self, task: Any) -> Descent | None:
        """Return what turns a batch into a step. One act may answer."""
        return None

    def called(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        """Return how the network is called in training and evaluation."""
        return forward

    def started(self, task: Any) -> None:
        """See the task when all of it is there."""

    # --- each step

    def before_step(self, batch: Batch) -> None:
        """See the batch before the step."""

    def weights(self, batch: Batch) -> Tensor | None:
        """Return what the loss of each example of this process's part of the batch is multiplied by."""
        return None

    def penalty(self, losses: Tensor) -> Tensor | None:
        """Return what is added to the mean loss of a piece, from the losses of its examples."""
        return None

    def after_piece(self, count: int) -> None:
        """See the gradients of the pieces so far, on this process alone; see `GradientStep`."""

    def observe(self) -> None:
        """Read the gradient of the batch: reduced, unscaled, raw."""

    def transform(self) -> None:
        """Put another gradient in the place of the batch's."""

    def after_step(self, report: GradientReport) -> str | None:
        """See what was done, once a batch, also where no step was taken; return a reason to end the run."""
        return None

    # --- aside from the step

    def aside(self) -> AbstractContextManager[object]:
        """Return a block in which the method is switched off, and whose end puts its memory back."""
        return nullcontext()

    def evaluated(self, model: nn.Module) -> nn.Module:
        """Return the model to evaluate."""
        return model

    def before_evaluation(self, split: Split) -> None:
        """Prepare an evaluation."""

    def measured(self, split: Split, found: Mapping[str, float]) -> Mapping[str, float]:
        """Return further metrics of an evaluation, from the recipe's or from others."""
        return {}

    def logged(self) -> Mapping[str, Tensor]:
        """Return 0-d tensors for the log of a step."""
        return {}

    def totals(self) -> Mapping[str, float]:
        """Return counts since the beginning, for every line of the log."""
        return {}

    def saved(self) -> Mapping[str, nn.Module]:
        """Return further models to save at the end, by the names of their files."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return what is remembered from step to step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""


def parts_of(recipe: type) -> list[type[Part]]:
    """Return the parts among a recipe's bases that make an act, by name; of a part and its subclass the subclass."""
    own = [
        base
        for base in recipe.__mro__
        if issubclass(base, Part) and base is not Part and "act" in vars(base) and not hasattr(base, "splits")
    ]
    return sorted(
        (base for base in own if not any(other is not base and issubclass(other, base) for other in own)),
        key=lambda part: part.__name__,
    )


def parts_with_arms(recipe: type) -> dict[str, type[Part]]:
    """Return the parts among a recipe's bases that have settings to try, by name; of a part and its subclass one."""
    own = [base for base in recipe.__mro__ if issubclass(base, Part) and base is not Part and "arms" in vars(base)]
    found = {
        base.__name__.removesuffix("Options"): base
        for base in own
        if not any(other is not base and issubclass(other, base) for other in own)
    }
    return dict(sorted(found.items()))


def recipes_with_act(recipe: type) -> list[type[Part]]:
    """Return the recipe among the bases that has an act of its own, the most special one."""
    return [base for base in recipe.__mro__ if hasattr(base, "splits") and "act" in vars(base)][:1]


def checks_of(recipe: type) -> Iterable[type[Part]]:
    """Return the parts among a recipe's bases that have a check of their own, the most general first."""
    return [base for base in reversed(recipe.__mro__) if issubclass(base, Part) and "check" in vars(base)]


def answers(act: Act, phase: str) -> bool:
    """Whether an act does anything in a phase."""
    return getattr(type(act), phase) is not getattr(Act, phase)
