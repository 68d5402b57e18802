"""The relative entropy of two coins, and its inversion.

    kl(p‖q) = p ln(p/q) + (1−p) ln((1−p)/(1−q))

grows as q leaves p on either side, so {q: kl(p‖q) ≤ b} is an interval around p. Its ends are found in float64 by
Brent's method.
"""

from __future__ import annotations

import math


def binary_kl(p: float, q: float) -> float:
    """Return kl(p‖q) in nats for p in [0, 1] and q in (0, 1)."""
    first = p * _log_ratio(p, q, p - q) if p > 0 else 0.0
    second = (1 - p) * _log_ratio(1 - p, 1 - q, q - p) if p < 1 else 0.0
    return first + second


def kl_upper(p: float, budget: float) -> float:
    """Return sup{q: kl(p‖q) ≤ budget} for p in [0, 1] and a budget that is not negative."""
    if p >= 1 or budget <= 0:
        return p
    if p <= 0:
        return -math.expm1(-budget)
    # kl(p‖q) ≥ (1−p) ln((1−p)/(1−q)) + p ln p, so at this q the budget is spent.
    end = 1 - (1 - p) * math.exp(-(budget - p * math.log(p)) / (1 - p))
    return 1.0 if end >= 1 else _root(p, end, budget)


def kl_lower(p: float, budget: float) -> float:
    """Return inf{q: kl(p‖q) ≤ budget} for p in [0, 1] and a budget that is not negative."""
    if p <= 0 or budget <= 0:
        return p
    if p >= 1:
        return math.exp(-budget)
    # kl(p‖q) ≥ p ln(p/q) + (1−p) ln(1−p)
    end = p * math.exp(-(budget - (1 - p) * math.log1p(-p)) / p)
    return 0.0 if end <= 0 else _root(p, end, budget)


def _log_ratio(a: float, b: float, difference: float) -> float:
    """Return ln(a/b). Where a and b are close, the precision is in their difference."""
    return math.log1p(difference / b) if a > b / 2 else math.log(a / b)


def _root(p: float, end: float, budget: float) -> float:
    if binary_kl(p, end) <= budget:  # it is the end, to the last digit
        return end
    from scipy.optimize import brentq

    # scipy's smallest relative tolerance; an absolute one would spoil ends close to zero.
    return float(brentq(lambda q: binary_kl(p, q) - budget, p, end, xtol=1e-300, rtol=4 * 2**-52))
