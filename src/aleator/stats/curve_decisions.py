"""Two decisions that a learning curve is drawn for: to stop collecting data, and to choose between two systems.

Stop when the trace has converged and the trend promises no more than τ, χ_ℓ(H) ≤ τ. Choose when the bootstrap bands of
two forecasts at H are apart, or else when both traces have converged, but never by a trend that is impossible at H.
Both rest on the hypotheses of `aleator.stats.LearningTrace` and guarantee nothing; the bands and the confidence are our
addition to the method of Vilares Ferro et al., Computer Speech & Language 41, 2017.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, SupportsFloat

import numpy as np
from numpy.typing import ArrayLike

from aleator.stats.intervals import Interval
from aleator.stats.learning_trace import LearningTrace
from aleator.stats.trace_state import TraceState


class LearningCurveStopping:
    """Says when more data is not worth it.

    Args:
        trace: gets every observation.
        tau: τ > 0: stop when the trend promises at most this much more, up to the trace's horizon if it has one.

    Attributes:
        state: what the trace said last; None before the first observation.

    Raises:
        ValueError: if τ is not positive.

    Example:
        >>> stopping = LearningCurveStopping(LearningTrace(horizon=200_000), tau=0.005)
        >>> stopping.should_stop(5_000, 0.82)
        False
    """

    def __init__(self, trace: LearningTrace, tau: float) -> None:
        if not 0 < tau < math.inf:
            raise ValueError(f"tau must be positive, got {tau}")
        self.trace, self.tau = trace, tau
        self.state: TraceState | None = None

    def should_stop(self, x: SupportsFloat, y: ArrayLike) -> bool:
        """Add an observation to the trace, and return whether to stop. Arguments and errors as for `update`."""
        self.state = self.trace.update(x, y)
        left = self.state.layer if self.trace.horizon is None else self.state.layer_at_horizon
        return left is not None and left <= self.tau


@dataclass(frozen=True)
class CurveComparison:
    """Which of two systems will be better at a size.

    Attributes:
        winner: ``"a"``, ``"b"``, or None while undecided.
        confidence: in how many of all pairs of bootstrap refits the system that leads is ahead, 0.5 to 1; None without
            generators. It is no probability that the winner is better: the law may be wrong for both.
        predictions: forecasts of a and b.
        bands: their bootstrap intervals; None without generators.
        reason: why, in words.
    """

    winner: Literal["a", "b"] | None
    confidence: float | None
    predictions: tuple[float, float]
    bands: tuple[Interval, Interval] | None
    reason: str


def compare_curves(trace_a: LearningTrace, trace_b: LearningTrace, at: float) -> CurveComparison:
    """Compare the forecasts of two systems at one size.

    Args:
        trace_a: of at least three observations.
        trace_b: the other system's, of the same metric.
        at: the size.

    Raises:
        ValueError: if one trace has higher scores as the better ones and the other lower, or too few observations.
    """
    if trace_a.higher_is_better != trace_b.higher_is_better:
        raise ValueError("trace_a and trace_b must have the same higher_is_better, got one of each")
    sign = 1 if trace_a.higher_is_better else -1
    predictions = (trace_a.predict(at), trace_b.predict(at))
    lead = sign * (predictions[0] - predictions[1])
    leader: Literal["a", "b"] = "a" if lead > 0 else "b"
    confidence, bands = None, None
    if trace_a.has_bands and trace_b.has_bands:
        bands = (trace_a.band(at), trace_b.band(at))
        refits = sign * np.subtract.outer(trace_a.refitted(at), trace_b.refitted(at))
        ahead = float(np.mean(refits > 0) + np.mean(refits == 0) / 2)
        confidence = max(ahead, 1 - ahead) if lead == 0 else ahead if leader == "a" else 1 - ahead
    impossible = [name for name, trace in (("a", trace_a), ("b", trace_b)) if trace.is_impossible(at)]
    if impossible:
        reason = f"the trend of {' and '.join(impossible)} is beyond what a score can be"
        return CurveComparison(None, confidence, predictions, bands, reason)
    if bands is not None and (bands[0][0] > bands[1][1] or bands[1][0] > bands[0][1]):
        return CurveComparison(leader, confidence, predictions, bands, "the bands are apart")
    if any(trace.levels.prediction is None for trace in (trace_a, trace_b)):
        return CurveComparison(None, confidence, predictions, bands, "a trace has not converged")
    if lead == 0:
        return CurveComparison(None, confidence, predictions, bands, "the forecasts are equal")
    return CurveComparison(leader, confidence, predictions, bands, "both traces have converged")
