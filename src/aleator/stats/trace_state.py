"""Answers of a learning trace: its state after an observation, and the size that a target needs.

The quantities are defined in `aleator.stats.learning_trace`, which has the formulas and the source.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from aleator.stats.intervals import Interval


class SizeForTarget(NamedTuple):
    """How much data a target needs: the size, or infinity, and in words why."""

    x: float
    reason: str


@dataclass(frozen=True)
class TraceState:
    """What a trace says after an observation. Scores, asymptotes and predictions are in the unit of the scores.

    Attributes:
        level: number of observations.
        x: the last size.
        score: the last score.
        alpha: asymptote of the plain trend, None before level 3 and where the scores do not rise. Before ℘ it may be
            beyond what a score can be.
        working_level: ω, None while undecided.
        prediction_level: ℘, None while undecided.
        decision_level: the level at which ℘ was known.
        layer: χ, the distance from the trend's value to α, of the plain trend, from ℘ on. Not a statistical guarantee.
        layer_at_horizon: the same with the trend's value at the horizon instead of α.
        radius: the largest residual of the last λ+1 observations, plus the largest rise of the backbone since ℘. The
            error at any larger size is at most layer + radius if the paper's hypotheses hold.
        prediction: the forecast at the horizon, of the anchored trend from ℘+1 on. Given before ℘ as well, where it is
            usually too good. Cut at the ideal where the trend leads beyond it.
        band: bootstrap interval of the prediction, if the trace has a generator.
        status: ``"converged"`` once ℘ is decided.
        warnings: the flags of the trend (see `PowerLaw`), ``"backbone_not_monotone"``, ``"horizon_below_data"``, and
            ``"impossible"`` where the trend at the horizon is no value that a score can have.
        largest_rise: by how much the backbone has gone up since ℘, from its lowest point before.
    """

    level: int
    x: float
    score: float
    alpha: float | None
    working_level: int | None
    prediction_level: int | None
    decision_level: int | None
    layer: float | None
    layer_at_horizon: float | None
    radius: float | None
    prediction: float | None
    band: Interval | None
    status: Literal["undecided", "converged"]
    warnings: tuple[str, ...]
    largest_rise: float
