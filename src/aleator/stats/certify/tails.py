"""One-sided tails, for n known, of a mean or of any function that no example moves much: the chance to be off by t.

    McDiarmid   exp(−2t²/Σcᵢ²)              f of independent arguments, of which the i-th changes it by at most cᵢ
    Bernstein   exp(−nt²/(2σ² + 2bt/3))      mean of n values of variance σ² that exceed their mean by at most b
    Bennett     exp(−(nσ²/b²) h(bt/σ²)),  h(u) = (1+u) ln(1+u) − u                                 never above Bernstein

McDiarmid, Surveys in Combinatorics, 1989; Bernstein, 1927; Bennett, JASA 57, 1962; as in Boucheron, Lugosi and Massart,
Concentration Inequalities, 2013, chapters 2 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import SupportsIndex

from aleator.stats.certify.certificate import checked_count


def mcdiarmid_tail(t: float, sensitivities: Sequence[float]) -> float:
    """Bound P[f − E f ≥ t].

    Args:
        t: not negative.
        sensitivities: cᵢ, by how much the i-th argument alone can change f; not negative.

    Raises:
        ValueError: if a number is out of range.
    """
    _check_not_negative(t=t)
    for c in sensitivities:
        _check_not_negative(sensitivities=c)
    total = math.fsum(c * c for c in sensitivities)
    if total == 0:  # f is constant
        return 1.0 if t == 0 else 0.0
    return math.exp(-2 * t * t / total)


def bernstein_tail(t: float, n: SupportsIndex, variance: float, b: float) -> float:
    """Bound P[mean − E mean ≥ t].

    Args:
        t: not negative.
        n: independent values, at least 1.
        variance: σ², not negative.
        b: by how much a value can exceed its mean, positive.

    Raises:
        ValueError: if a number is out of range.
    """
    n = _checked(t, n, variance, b)
    if t == 0:
        return 1.0
    return math.exp(-n * t * t / (2 * variance + 2 * b * t / 3))


def bennett_tail(t: float, n: SupportsIndex, variance: float, b: float) -> float:
    """Bound P[mean − E mean ≥ t]. Arguments and errors as for `bernstein_tail`."""
    n = _checked(t, n, variance, b)
    if t == 0:
        return 1.0
    if variance == 0:
        return 0.0
    u = b * t / variance
    # (1+u) ln(1+u) − u is the difference of near-equal numbers for small u; its series is u²/2 − u³/6 + u⁴/12 − …
    h = u * u * (1 / 2 - u / 6 + u * u / 12) if u < 1e-4 else (1 + u) * math.log1p(u) - u
    return math.exp(-n * variance / (b * b) * h)


def _checked(t: float, n: SupportsIndex, variance: float, b: float) -> int:
    _check_not_negative(t=t, variance=variance)
    if not 0 < b < math.inf:
        raise ValueError(f"b must be positive and finite, got {b}")
    return checked_count("n", n, 1)


def _check_not_negative(**values: float) -> None:
    for name, value in values.items():
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must not be negative and must be finite, got {value}")
