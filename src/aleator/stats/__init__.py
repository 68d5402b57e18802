"""What may be concluded from a few random samples: intervals, paired comparisons, forecasts, calibration by pairs.

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
    from aleator.stats.pairs.abstention import ABSTAIN, Abstention, hallucination_rate_bound, selective_decode
    from aleator.stats.pairs.calibration_error import ece1, ece2, signed_gap
    from aleator.stats.pairs.cheat_scores import CheatScores, cheat_scores
    from aleator.stats.pairs.conservative import confidence_interval, conservative_factor
    from aleator.stats.pairs.risk_coverage import RiskCoverage, auroc, risk_coverage
    from aleator.stats.pairs.squared_error import pair_squared_error
    from aleator.stats.power_law import PowerLaw, PowerLaws, fit_power_law, fit_power_laws
    from aleator.stats.trace_state import SizeForTarget, TraceState

__all__ = [
    "ABSTAIN",
    "Abstention",
    "CheatScores",
    "CurveComparison",
    "FamilyFit",
    "LearningCurveStopping",
    "LearningTrace",
    "PairedDifference",
    "PowerLaw",
    "PowerLaws",
    "RiskCoverage",
    "SizeForTarget",
    "TraceState",
    "auroc",
    "cheat_scores",
    "choose_family",
    "clopper_pearson",
    "compare_curves",
    "confidence_interval",
    "conservative_factor",
    "ece1",
    "ece2",
    "fit_family",
    "fit_power_law",
    "fit_power_laws",
    "hallucination_rate_bound",
    "holm",
    "mean_interval",
    "pair_squared_error",
    "paired_difference",
    "risk_coverage",
    "selective_decode",
    "signed_gap",
]

__getattr__ = later(
    __name__,
    {
        "ABSTAIN": "pairs.abstention",
        "Abstention": "pairs.abstention",
        "CheatScores": "pairs.cheat_scores",
        "CurveComparison": "curve_decisions",
        "FamilyFit": "curve_families",
        "LearningCurveStopping": "curve_decisions",
        "LearningTrace": "learning_trace",
        "PowerLaw": "power_law",
        "PowerLaws": "power_law",
        "RiskCoverage": "pairs.risk_coverage",
        "SizeForTarget": "trace_state",
        "TraceState": "trace_state",
        "auroc": "pairs.risk_coverage",
        "cheat_scores": "pairs.cheat_scores",
        "choose_family": "curve_families",
        "compare_curves": "curve_decisions",
        "confidence_interval": "pairs.conservative",
        "conservative_factor": "pairs.conservative",
        "ece1": "pairs.calibration_error",
        "ece2": "pairs.calibration_error",
        "fit_family": "curve_families",
        "fit_power_law": "power_law",
        "fit_power_laws": "power_law",
        "hallucination_rate_bound": "pairs.abstention",
        "pair_squared_error": "pairs.squared_error",
        "risk_coverage": "pairs.risk_coverage",
        "selective_decode": "pairs.abstention",
        "signed_gap": "pairs.calibration_error",
    },
)
