"""Target surrogates: several optimizer steps for one gradient of the loss in the outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from aleator.recipes.parts.checks import positive
from aleator.recipes.parts.part import Act, Descent, Part

if TYPE_CHECKING:
    from torch import Tensor

    from aleator.experiment.gradient_step import GradientReport
    from aleator.recipes.parts.batch import Batch
    from aleator.recipes.parts.run import Run


@dataclass(frozen=True)
class TargetSurrogates(Part):
    """Descend on a surrogate of every batch instead of once on its loss."""

    card: ClassVar[str] = "target-surrogates"

    surrogate: int | None = None
    """Take this number of steps of the optimizer on a target surrogate of every batch, instead of one on its loss.
    Learning rate and weight decay apply to each of them; SGD has 0.01 by default then."""
    target_step_size: float | None = None
    """γ of the surrogates, the step in the space of the outputs. Default: 1/L of the loss, which is 2 for the cross
    entropy."""

    honours: ClassVar[frozenset[str]] = frozenset({"transform", "optimizer"})

    def check(self) -> None:
        """Check what can be checked without data."""
        positive(self, "surrogate", "target_step_size")
        if self.surrogate is None and self.target_step_size is not None:
            raise ValueError(f"target_step_size cannot be used without surrogate, got {self.target_step_size}")

    def usual_lr(self) -> float | None:
        """Return a rate at which SGD's inner steps do not diverge: on digits, three of them do at 0.05."""
        several = self.surrogate is not None and self.surrogate > 1
        return 0.01 if several and getattr(self, "optimizer", None) == "sgd" else None

    def replaces_backward(self) -> Mapping[str, frozenset[str]]:
        """Return the surrogate, where there is one."""
        return {} if self.surrogate is None else {"surrogate": self.honours}

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return a few and many inner steps."""
        return [{"surrogate": 5}, {"surrogate": 20}]

    def act(self, run: Run) -> Act | None:
        """Return the surrogate's act."""
        return None if self.surrogate is None else _SurrogateAct(self)


class _SurrogateAct(Act):
    def __init__(self, options: TargetSurrogates) -> None:
        self._options = options
        self._descent: _SurrogateDescent | None = None

    def descent(self, task: Any) -> Descent | None:
        self._descent = _SurrogateDescent(self._options, task)
        return self._descent

    def totals(self) -> Mapping[str, float]:
        return {} if self._descent is None else self._descent.state_dict()


class _SurrogateDescent:
    """Takes the inner steps on a batch."""

    def __init__(self, options: TargetSurrogates, task: Any) -> None:
        from aleator.optim import SMOOTH_STEP
        from aleator.recipes.parts.losses import has_classes
        from aleator.recipes.parts.surrogate_step import SurrogateGradientStep

        recipe = task.options
        if recipe.says("forward"):
            name = type(recipe).__name__
            raise ValueError(f"surrogate cannot be used with {name}, which calls its network by forward")
        assert options.surrogate is not None
        self.honours = options.honours
        self._losses = recipe.losses
        gamma = options.target_step_size
        if gamma is None:
            if recipe.says("losses"):
                raise ValueError("target_step_size must be given for a loss of the recipe's own, got None")
            gamma = SMOOTH_STEP["cross-entropy" if has_classes(task.train) else "squared"]
        self._step = SurrogateGradientStep(
            task.accelerator,
            task.model,
            task.optimizer,
            task.schedule,
            gamma,
            options.surrogate,
            before_step=task.acts.of("transform"),
        )

    def __call__(self, batch: Batch) -> tuple[GradientReport, Mapping[str, Tensor]]:
        """Learn from a batch."""
        return self._step(batch.inputs, partial(_per_example, self._losses, batch.targets))

    def state_dict(self) -> dict[str, Any]:
        """Return the target gradients and the inner steps since the beginning."""
        return self._step.counts()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from these counts."""
        self._step.set_counts(state)


def _per_example(losses: Any, targets: Any, outputs: Tensor) -> Tensor:
    found = losses(outputs, targets)
    if isinstance(found, tuple):
        raise ValueError("surrogate cannot be used with losses that have counts")
    return found  # type: ignore[no-any-return]
