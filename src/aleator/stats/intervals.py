"""Intervals for a proportion and for a mean, exact for any sample size.

A proportion of k successes in n trials has the Clopper–Pearson interval, which inverts the two one-sided binomial
tests:

    low = B⁻¹(α/2; k, n−k+1),   high = B⁻¹(1−α/2; k+1, n−k),   α = 1 − level

where B⁻¹ is the quantile of the beta distribution (Clopper and Pearson, Biometrika 26, 1934). Its coverage is at least
``level`` whatever the true proportion. The mean of n normal values has Student's interval

    mean ± t(1−α/2; n−1) · s/√n                       (Student, Biometrika 6, 1908).
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import SupportsIndex

Interval = tuple[float, float]


def _checked_level(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"level must be in (0, 1), got {level}")
    return float(level)


def _checked_values(name: str, values: Sequence[float]) -> list[float]:
    checked = [float(value) for value in values]
    for value in checked:
        if not math.isfinite(value):
            raise ValueError(f"{name} must be finite numbers, got {value}")
    return checked


def clopper_pearson(successes: SupportsIndex, trials: SupportsIndex, level: float = 0.95) -> Interval:
    """Return the exact two-sided confidence interval of a proportion.

    Args:
        successes: number of successes, 0 ≤ successes ≤ trials.
        trials: number of independent trials, at least 1.
        level: confidence level in (0, 1).

    Returns:
        (low, high) with 0 ≤ low ≤ successes/trials ≤ high ≤ 1; low is 0 when there is no success and high is 1 when
        there is no failure.

    Raises:
        ValueError: if the counts or the level are out of range.
    """
    k, n, level = operator.index(successes), operator.index(trials), _checked_level(level)
    if n < 1:
        raise ValueError(f"trials must be at least 1, got {n}")
    if not 0 <= k <= n:
        raise ValueError(f"successes must be in [0, {n}], got {k}")
    tail = (1 - level) / 2
    return exact_lower(k, n, tail), exact_upper(k, n, tail)


def exact_lower(k: int, n: int, tail: float) -> float:
    """Return the proportion at which k successes or more have probability ``tail``; 0 for k = 0."""
    from scipy.special import betaincinv  # a quantile of beta, without the second that scipy.stats takes to import

    return 0.0 if k == 0 else float(betaincinv(k, n - k + 1, tail))


def exact_upper(k: int, n: int, tail: float) -> float:
    """Return the proportion at which k successes or fewer have probability ``tail``; 1 for k = n."""
    from scipy.special import betainccinv

    return 1.0 if k == n else float(betainccinv(k + 1, n - k, tail))


def spread(values: Sequence[float], scale: float = 0.0) -> float:
    """Return the sample standard deviation (divisor n−1), and exactly 0 where only rounding differs.

    Args:
        values: at least two finite numbers.
        scale: size of the numbers that the values were computed from, if larger than the values themselves.
    """
    mean = math.fsum(values) / len(values)
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))
    # 0.3 − 0.1 and 0.2 − 0.0 differ by one unit in the last place: that is not a spread.
    rounding = 2**-50 * max(scale, *(abs(value) for value in values))
    return deviation if deviation > rounding else 0.0


def cut(interval: Interval | None, low: float, high: float) -> Interval | None:
    """Return the part of an interval that lies in [low, high], where the quantity does: it keeps its coverage."""
    return interval and (max(interval[0], low), min(interval[1], high))


def mean_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Return Student's confidence interval of a mean.

    Args:
        values: independent observations, such as the test accuracy of several seeds. At least one.
        level: confidence level in (0, 1).

    Returns:
        (low, high), or None where the values say nothing about their spread: there is one, or all are equal.

    Raises:
        ValueError: if there is no value, a value is not finite, or the level is out of range.
    """
    checked, level = _checked_values("values", values), _checked_level(level)
    if not checked:
        raise ValueError("values must hold at least one number, got none")
    n = len(checked)
    deviation = spread(checked) if n > 1 else 0.0
    if deviation == 0:
        return None
    from scipy.special import stdtrit

    mean = math.fsum(checked) / n
    half = -float(stdtrit(n - 1, (1 - level) / 2)) * deviation / math.sqrt(n)
    return mean - half, mean + half
