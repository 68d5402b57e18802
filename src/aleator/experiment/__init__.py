"""Run, resume, compare, report: what every task gets from the house.

`Recipe` and `Task` are the protocol; `RunOptions` and ``run`` carry one out; ``compare`` runs variants over seeds;
``advise`` finds out which methods pay.
"""

from typing import TYPE_CHECKING

from aleator.experiment.exhibit import Exhibit
from aleator.experiment.options import RunOptions
from aleator.experiment.protocol import Budget, Direction, Headline, Precision, Recipe, Split, StepResult, Task
from aleator.experiment.signals import Interrupted
from aleator.later import later

if TYPE_CHECKING:
    from aleator.experiment.advice.advise import advise
    from aleator.experiment.comparison.execute import compare
    from aleator.experiment.comparison.plan import Variant
    from aleator.experiment.gradient_step import GradientStep
    from aleator.experiment.loop import RunFailed, run

__all__ = [
    "Budget",
    "Direction",
    "Exhibit",
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
    "advise",
    "compare",
    "run",
]

# What needs torch is imported when it is first asked for: recipes import this package to be listed.
__getattr__ = later(
    __name__,
    {
        "GradientStep": "gradient_step",
        "Variant": "comparison.plan",
        "advise": "advice.advise",
        "compare": "comparison.execute",
        "run": "loop",
        "RunFailed": "loop",
    },
)
