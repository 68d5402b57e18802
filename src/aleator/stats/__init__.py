"""Conclusions from random samples: intervals, certificates, comparisons, forecasts, calibration by pairs.

scipy is imported when a function is called, and what needs numpy when it is first asked for, so that importing this
package costs nothing.
"""

from typing import TYPE_CHECKING

from aleator.later import later
from aleator.stats.certify.accuracy import accuracy_bound
from aleator.stats.certify.anytime import AnytimeAccuracy
from aleator.stats.certify.certificate import Certificate
from aleator.stats.certify.losses import difference_bound, loss_bound, mcnemar
from aleator.stats.certify.tails import bennett_tail, bernstein_tail, mcdiarmid_tail
from aleator.stats.intervals import clopper_pearson, mean_interval
from aleator.stats.multiplicity import holm
from aleator.stats.paired import PairedDifference, paired_difference

if TYPE_CHECKING:
    from aleator.stats.advice.effects import ArmResults, Effect, ExampleResults, arm_effects
    from aleator.stats.certify.complexity import empirical_rademacher, massart_bound, sauer_shelah
    from aleator.stats.certify.pac_bayes import gaussian_kl, pac_bayes_kl, pac_bayes_sqrt
    from aleator.stats.chains import effective_sample_size, split_rhat
    from aleator.stats.curve_decisions import CurveComparison, LearningCurveStopping, compare_curves
    from aleator.stats.curve_families import FamilyFit, choose_family, fit_family
    from aleator.stats.distances import energy_distance, mmd2, sliced_wasserstein, wasserstein_1d
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
    "AnytimeAccuracy",
    "ArmResults",
    "Certificate",
    "CheatScores",
    "CurveComparison",
    "Effect",
    "ExampleResults",
    "FamilyFit",
    "LearningCurveStopping",
    "LearningTrace",
    "PairedDifference",
    "PowerLaw",
    "PowerLaws",
    "RiskCoverage",
    "SizeForTarget",
    "TraceState",
    "accuracy_bound",
    "arm_effects",
    "auroc",
    "bennett_tail",
    "bernstein_tail",
    "cheat_scores",
    "choose_family",
    "clopper_pearson",
    "compare_curves",
    "confidence_interval",
    "conservative_factor",
    "difference_bound",
    "ece1",
    "ece2",
    "effective_sample_size",
    "empirical_rademacher",
    "energy_distance",
    "fit_family",
    "fit_power_law",
    "fit_power_laws",
    "gaussian_kl",
    "hallucination_rate_bound",
    "holm",
    "loss_bound",
    "massart_bound",
    "mcdiarmid_tail",
    "mcnemar",
    "mean_interval",
    "mmd2",
    "pac_bayes_kl",
    "pac_bayes_sqrt",
    "pair_squared_error",
    "paired_difference",
    "risk_coverage",
    "sauer_shelah",
    "selective_decode",
    "signed_gap",
    "sliced_wasserstein",
    "split_rhat",
    "wasserstein_1d",
]

__getattr__ = later(
    __name__,
    {
        "ABSTAIN": "pairs.abstention",
        "Abstention": "pairs.abstention",
        "ArmResults": "advice.effects",
        "CheatScores": "pairs.cheat_scores",
        "Effect": "advice.effects",
        "ExampleResults": "advice.effects",
        "arm_effects": "advice.effects",
        "pac_bayes_kl": "certify.pac_bayes",
        "pac_bayes_sqrt": "certify.pac_bayes",
        "gaussian_kl": "certify.pac_bayes",
        "sauer_shelah": "certify.complexity",
        "massart_bound": "certify.complexity",
        "empirical_rademacher": "certify.complexity",
        "split_rhat": "chains",
        "effective_sample_size": "chains",
        "mmd2": "distances",
        "energy_distance": "distances",
        "wasserstein_1d": "distances",
        "sliced_wasserstein": "distances",
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
