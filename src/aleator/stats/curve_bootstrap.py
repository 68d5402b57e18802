"""Refits of a learning curve to what might have been observed instead, and percentiles of what they say.

With the scores of k folds at every level, whole folds are drawn with replacement, the same at every level, so that
errors shared by the levels stay shared; deviations are scaled by √(k/(k−1)). With one score a level, the residuals of
the trend are drawn, centred and scaled by √(ℓ/(ℓ−3)) for its three fitted parameters; this takes the errors of
different levels as independent, which those on one test set are not.

Ours: the method of Vilares Ferro et al. (see `aleator.stats.learning_trace`) has no bands. The bootstrap is B. Efron,
Bootstrap methods: another look at the jackknife, Annals of Statistics 7, 1979.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float

from aleator.stats.intervals import Interval
from aleator.stats.power_law import PerCurve, PowerLaw, PowerLaws, fit_power_laws

RESAMPLES = 200
LEVEL = 0.95  # of the bands
_PARAMETERS = 3  # of a law


def refits(
    x: Float[np.ndarray, " levels"],
    scores: Float[np.ndarray, " levels"],
    folds: Float[np.ndarray, "levels folds"],
    trend: PowerLaw,
    rng: np.random.Generator,
) -> PowerLaws:
    """Return the laws of resampled curves.

    Args:
        x: the sizes, four at least, or three with folds.
        scores: the mean score at each size; higher is better.
        folds: the scores it is the mean of.
        trend: the law of the scores.
        rng: where the draws come from.
    """
    levels, k = folds.shape
    if k > 1:
        drawn = rng.integers(k, size=(RESAMPLES, k))
        means = folds[:, drawn].mean(axis=2).T
        return fit_power_laws(x, scores + (means - scores) * math.sqrt(k / (k - 1)))
    fitted = trend.predict(x)
    residuals = scores - fitted
    residuals = (residuals - residuals.mean()) * math.sqrt(levels / (levels - _PARAMETERS))
    return fit_power_laws(x, fitted + residuals[rng.integers(levels, size=(RESAMPLES, levels))])


def percentiles(values: PerCurve) -> Interval:
    """Return the interval that holds `LEVEL` of the values; its ends are two of them, so that infinity may be one."""
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(values, [tail, 1 - tail], method="inverted_cdf")
    return float(low), float(high)
