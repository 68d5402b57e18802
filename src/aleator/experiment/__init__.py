"""Run, resume, compare, report: what every task gets from the house.

`Recipe` and `Task` are the protocol; `RunOptions` and ``run`` carry one out; ``compare`` runs variants over seeds.
"""

from typing import TYPE_CHECKING, Any

from aleator.experiment.options import RunOptions
from aleator.experiment.protocol import Budget, Direction, Headline, Precision, Recipe, Split, StepResult, Task
from aleator.experiment.signals import Interrupted

if TYPE_CHECKING:
    from aleator.experiment.comparison.execute import compare
    from aleator.experiment.comparison.plan import Variant
    from aleator.experiment.gradient_step import GradientStep
    from aleator.experiment.loop import RunFailed, run

__all__ = [
    "Budget",
    "Direction",
    "GradientStep",
    "Headline",
    "Interrupted",
    "Precision",
    "Recipe",
    "RunFailed",
    "RunOptions",
    "Split",
    "StepResult",
    "Task",
    "Variant",
    "compare",
    "run",
]

# What needs torch is imported when it is first asked for: recipes import this package to be listed.
_LATER = {
    "GradientStep": "gradient_step",
    "Variant": "comparison.plan",
    "compare": "comparison.execute",
    "run": "loop",
    "RunFailed": "loop",
}


def __getattr__(name: str) -> Any:
    """Import a name whose module imports torch."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"aleator.experiment.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
