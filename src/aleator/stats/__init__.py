"""What may be concluded from a few random samples: intervals, the paired comparison of runs, learning-curve forecasts.

scipy is imported when a function is called, and what needs numpy when it is first asked for, so that importing this
package costs nothing.
"""

from typing import TYPE_CHECKING

from aleator.later import later
from aleator.stats.intervals import clopper_pearson, mean_interval
from aleator.stats.multiplicity import holm
from aleator.stats.paired import PairedDifference, paired_difference

if TYPE_CHECKING:
    from aleator.stats.curve_decisions import CurveComparison, LearningCurveStopping, compare_curves
    from aleator.stats.curve_families import FamilyFit, choose_family, fit_family
    from aleator.stats.learning_trace import LearningTrace
    from aleator.stats.power_law import PowerLaw, PowerLaws, fit_power_law, fit_power_laws
    from aleator.stats.trace_state import SizeForTarget, TraceState

__all__ = [
    "CurveComparison",
    "FamilyFit",
    "LearningCurveStopping",
    "LearningTrace",
    "PairedDifference",
    "PowerLaw",
    "PowerLaws",
    "SizeForTarget",
    "TraceState",
    "choose_family",
    "clopper_pearson",
    "compare_curves",
    "fit_family",
    "fit_power_law",
    "fit_power_laws",
    "holm",
    "mean_interval",
    "paired_difference",
]

__getattr__ = later(
    __name__,
    {
        "CurveComparison": "curve_decisions",
        "FamilyFit": "curve_families",
        "LearningCurveStopping": "curve_decisions",
        "LearningTrace": "learning_trace",
        "PowerLaw": "power_law",
        "PowerLaws": "power_law",
        "SizeForTarget": "trace_state",
        "TraceState": "trace_state",
        "choose_family": "curve_families",
        "compare_curves": "curve_decisions",
        "fit_family": "curve_families",
        "fit_power_law": "power_law",
        "fit_power_laws": "power_law",
    },
)
