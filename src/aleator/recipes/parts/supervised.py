"""A supervised task in about twenty lines that gets every method of the house.

    @dataclass(frozen=True)
    class Digits(Supervised):
        def splits(self, streams): ...      # {"train": (x, y), "validation": …, "test": …}
        def network(self, splits): ...      # nn.Module

The recipe says what is learned, the parts among the bases say how: `Supervised` has all general ones,
``class Digits(SupervisedBase, Subset, Tract)`` picks some. Fields of parts and recipe are options of the task. The
task itself is `aleator.recipes.parts.task.SupervisedTask`. Nothing heavy is imported here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from aleator.experiment import Headline, Task
from aleator.later import named
from aleator.recipes.parts.batch_size import AdaptiveBatch
from aleator.recipes.parts.checks import positive
from aleator.recipes.parts.compiled import Compile
from aleator.recipes.parts.curvature import Curvature
from aleator.recipes.parts.descent import TrainingOptions
from aleator.recipes.parts.ema import WeightEMA
from aleator.recipes.parts.mixture import Mixture
from aleator.recipes.parts.part import Part, checks_of
from aleator.recipes.parts.proximal import Proximal
from aleator.recipes.parts.subset import Subset
from aleator.recipes.parts.target_surrogates import TargetSurrogates
from aleator.recipes.parts.tract import Tract

if TYPE_CHECKING:
    import torch
    from accelerate import Accelerator
    from torch import Tensor, nn

    from aleator.experiment.gradient_step import Loss
    from aleator.random import Streams

_TASK = "aleator.recipes.parts.task:SupervisedTask"


def _options_of(cls: type) -> set[str]:
    return {name for name, kind in vars(cls).get("__annotations__", {}).items() if "ClassVar" not in str(kind)}


@dataclass(frozen=True)
class SupervisedBase(TrainingOptions):
    """A supervised task with an optimizer and a schedule; parts are added as further bases."""

    batch_size: int = 32
    """Examples in an optimizer step, over all processes. A short last batch of a round is dropped."""
    rounds: int = 60
    """Passes over the training data, or over the subset when there is one."""
    steps: int | None = None
    """Train for this number of steps, over which schedules stretch, in the place of rounds. Where batches grow, for as
    many examples as that number of batches of batch_size has."""
    resplit: bool = False
    """Draw anew for each seed which of the training and validation examples are which. The test data stay."""
    train_size: int | None = None
    """Use this number of training examples, drawn anew for each seed; a smaller set is part of a larger one."""
    stop_at: int | None = None
    """End the run at this step, wherever its schedule is."""
    loader_workers: int = 0
    """Processes that read a data set ahead of the training step. Tensors in memory need none."""

    # What a run is built from; a recipe with a step of its own names another task.
    built_by: ClassVar[str] = _TASK
    counts_examples: ClassVar[bool] = True
    # Examples that pass through the network at once in an evaluation.
    evaluation_batch: ClassVar[int] = 1000
    # The metric that matters; None is accuracy for classes and the loss for everything else.
    headline: ClassVar[Headline | None] = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse an option and a method of one name: either would hide the other in silence."""
        super().__init_subclass__(**kwargs)
        bases = [base for base in cls.__mro__ if issubclass(base, Part)]
        options = {name: base for base in reversed(bases) for name in _options_of(base)}
        for base in bases:
            own = _options_of(base)
            for name, value in vars(base).items():
                if name not in options or name in own or not (callable(value) or isinstance(value, property)):
                    continue
                if base is cls:
                    hidden = f"the method {name!r} hides the option of {options[name].__name__}"
                else:
                    hidden = f"the option {name!r} hides the method of {base.__name__}"
                raise TypeError(f"{cls.__name__}: {hidden}; rename it")

    # --- what a recipe says

    def splits(self, streams: Streams) -> Mapping[str, Any]:
        """Return the training, validation and test data under the names ``train``, ``validation`` and ``test``.

        Each is a pair (inputs, targets) of tensors, or of containers of tensors, in memory; or a map-style data set,
        which `collate` cuts into (inputs, targets). What is drawn from torch's global generator here belongs to the
        run; use ``Streams(0)`` for what is to be the same for every seed.
        """
        raise NotImplementedError(f"{type(self).__name__} must define splits(streams)")

    def network(self, splits: Mapping[str, Any]) -> nn.Module:
        """Return the network, in float32 on the CPU; ``splits`` is what `splits` returned."""
        raise NotImplementedError(f"{type(self).__name__} must define network(splits)")

    def losses(self, outputs: Any, targets: Any) -> Loss:
        """Return the loss of every example; cross entropy for integer targets and squared error for others.

        Or a pair: for each part of an example, such as a token, or for each example the sum over its parts, and counts
        of the same shape. The loss of a batch is then the sum of the values divided by the sum of the counts.
        """
        from aleator.recipes.parts.losses import per_example

        return per_example(outputs, targets)

    def metrics(self, outputs: Any, targets: Any) -> Mapping[str, Tensor]:
        """Return metrics of every example beside the loss, by name; or pairs of values and counts, as `losses`."""
        from aleator.recipes.parts.losses import is_classes

        return {"accuracy": outputs.argmax(1) == targets} if is_classes(targets) else {}

    def scores(self, outputs: Any, targets: Any) -> Mapping[str, float]:
        """Return metrics of a whole split that are no means over examples, such as F1, AUROC or R²."""
        return {}

    def augmented(self, inputs: Any, targets: Any, generator: torch.Generator) -> tuple[Any, Any]:
        """Return a training batch at random; all that is drawn comes from the generator, on the model's device."""
        return inputs, targets

    def prepared(self, inputs: Any) -> Any:
        """Return inputs as the network wants them, in training and in evaluations."""
        return inputs

    def forward(self, model: nn.Module, inputs: Any) -> Any:
        """Return the network's outputs."""
        return model(inputs)

    def collate(self, items: list[Any]) -> Any:
        """Join items of a data set to a pair (inputs, targets)."""
        from torch.utils.data import default_collate

        return default_collate(items)

    def groups(self, splits: Mapping[str, Any]) -> tuple[Tensor, tuple[str, ...]] | None:
        """Return the group of each training example, as integers from 0, and the groups' names; for mixtures."""
        return None

    def objective(self, model: Callable[[Any], Any], batch: tuple[Any, Any], noise: torch.Generator) -> Tensor:
        """Return the loss of a batch that is no mean over examples, as contrastive ones are. `losses` is the rule.

        A batch cut into pieces has the mean of the pieces' objectives. `losses` is still asked in evaluations.
        """
        raise NotImplementedError

    # --- what the house makes of it

    def summed(self, outputs: Any, targets: Any) -> dict[str, tuple[Tensor, Any]]:
        """Return for the loss and each metric its sum over a batch, and the count to divide by."""
        from aleator.recipes.parts.losses import summed

        found = {"loss": self.losses(outputs, targets), **self.metrics(outputs, targets)}
        return {name: summed(name, values) for name, values in found.items()}

    @classmethod
    def says(cls, method: str) -> bool:
        """Whether the recipe has a method of its own in the place of the one that is here."""
        return getattr(cls, method) is not getattr(SupervisedBase, method)

    def check(self) -> None:
        """Check what can be checked without data."""
        positive(self, "batch_size", "rounds", "steps", "train_size", "stop_at")
        if self.loader_workers < 0:
            raise ValueError(f"loader_workers must not be negative, got {self.loader_workers}")
        if self.accumulate > self.batch_size:
            raise ValueError(f"accumulate must be at most batch_size, {self.batch_size}, got {self.accumulate}")
        wanted = {
            "max_grad_norm": (self.max_grad_norm, None, "clip"),
            "accumulate": (self.accumulate, 1, "accumulate"),
            "shard": (self.shard, False, "shard"),
            "precision": (self.precision if self.precision == "float16" else None, None, "scaler"),
        }
        for name, honours in self.descents().items():
            for option, (value, usual, capability) in wanted.items():
                if value != usual and capability not in honours:
                    raise ValueError(f"{option} cannot be used with {name}, got {value}")

        if (raw := self.raw_gradient) is not None:
            for option in ("first_layer", "surrogate"):
                if (value := getattr(self, option, None)) not in ("plain", None):
                    raise ValueError(f"{option} cannot be used with {raw}, got {value}")

    def total_steps(self, examples: int, ratio: float = 1.0) -> int:
        """Return the steps of a run on a share of some training examples: those asked for, or those of the rounds."""
        from aleator.data import BudgetPlan

        plan = BudgetPlan(examples, ratio, self.rounds, self.batch_size)  # refuses a batch that is larger than a round
        return plan.total_steps if self.steps is None else self.steps

    def descents(self) -> dict[str, frozenset[str]]:
        """Return what replaces plain backward passes in this recipe, and what it honours."""
        found: dict[str, frozenset[str]] = {}
        for base in type(self).__mro__:
            if issubclass(base, Part) and "replaces_backward" in vars(base):
                found |= base.replaces_backward(self)
        return found

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        for part in checks_of(type(self)):
            part.check(self)
        return named(self.built_by)(self, streams, accelerator)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Supervised(
    SupervisedBase, Curvature, Subset, Mixture, Tract, TargetSurrogates, Proximal, WeightEMA, Compile, AdaptiveBatch
):
    """A supervised task with every general part."""
