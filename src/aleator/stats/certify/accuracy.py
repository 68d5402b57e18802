"""Bounds on the accuracy of a classifier on new examples, from k right answers among n held-out ones.

    Clopper–Pearson      lower B⁻¹(δ; k, n−k+1),  upper B⁻¹(1−δ; k+1, n−k)                            exact: the default
    Chernoff, kl         the ends of {q: kl(p̂‖q) ≤ ln(1/δ)/n},  p̂ = k/n
    Hoeffding            p̂ ± √(ln(1/δ)/(2n))
    empirical Bernstein  p̂ ± (√(2V ln(2/δ)/n) + 7 ln(2/δ)/(3(n−1))),  V = k(n−k)/(n(n−1))
    Wilson               (p̂ + z²/(2n) ± z√(p̂(1−p̂)/n + z²/(4n²)))/(1 + z²/n),  z = Φ⁻¹(1−δ)           no guarantee

B⁻¹ is the quantile of the beta distribution. Clopper and Pearson, Biometrika 26, 1934; Hoeffding, JASA 58, 1963; Maurer
and Pontil, COLT 2009, arXiv 0907.3740, Theorem 4; Wilson, JASA 22, 1927.
"""

from __future__ import annotations

import math
from typing import Literal, SupportsIndex, TypeAlias

from aleator.stats.certify.binary_kl import kl_lower, kl_upper
from aleator.stats.certify.certificate import (
    Certificate,
    Side,
    assumptions,
    checked_candidates,
    checked_count,
    checked_delta,
    sided,
)
from aleator.stats.certify.losses import bernstein_margin, hoeffding_margin
from aleator.stats.intervals import exact_lower, exact_upper

Method: TypeAlias = Literal["clopper_pearson", "hoeffding", "kl", "empirical_bernstein", "wilson"]

METHODS: tuple[Method, ...] = ("clopper_pearson", "hoeffding", "kl", "empirical_bernstein", "wilson")


def accuracy_bound(
    correct: SupportsIndex,
    n: SupportsIndex,
    delta: float = 0.05,
    method: Method = "clopper_pearson",
    side: Side = "lower",
    candidates: SupportsIndex = 1,
    *,
    used_for_choosing: bool = False,
) -> Certificate:
    """Bound the accuracy of one fixed model on new examples.

    The bound is for a number of examples that was fixed beforehand. To look while examples come in, take
    `AnytimeAccuracy`. Where examples belong together (several of one patient, copies of one image), count groups.

    Args:
        correct: k, right answers, a whole number in [0, n].
        n: held-out examples, at least 1; at least 2 for empirical Bernstein.
        delta: probability in (0, 1) that the bound may be wrong.
        method: see the module. ``"wilson"`` is an approximation for display.
        side: ``"lower"``, ``"upper"``, or ``"both"``, which takes δ/2 on each side.
        candidates: m, the models among which one may be chosen on these examples, checkpoints included: δ/m for each.
        used_for_choosing: whether the examples served for early stopping or for choosing among models.

    Returns:
        A certificate whose bound lies within [0, 1].

    Raises:
        ValueError: if a number is out of range or not whole, a word is unknown, or the examples were used for choosing
            and the candidates are not counted.

    Example:
        >>> round(accuracy_bound(correct=9500, n=10_000, delta=0.05).bound, 4)
        0.9463
    """
    n = checked_count("n", n, 1)
    k = checked_count("correct", correct, 0, n)
    delta, candidates = checked_delta(delta), checked_candidates(candidates, used_for_choosing)
    if method not in METHODS:
        raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
    if method == "empirical_bernstein" and n < 2:
        raise ValueError(f"n must be at least 2 for empirical_bernstein, got {n}")
    said = assumptions(candidates)
    return Certificate(
        bound=sided(lambda t: _end(k, n, t, method, -1), lambda t: _end(k, n, t, method, 1), side, delta / candidates),
        estimate=k / n,
        method=method,
        side=side,
        delta=delta,
        candidates=candidates,
        n=n,
        counted=f"{k} right answers among {n} examples",
        assumptions=f"{said}; an approximation without a guarantee" if method == "wilson" else said,
    )


def _end(k: int, n: int, tail: float, method: Method, sign: Literal[-1, 1]) -> float:
    """Return the lower (−1) or upper (+1) bound that is wrong with probability ``tail``."""
    p = k / n
    if method == "clopper_pearson":
        return exact_lower(k, n, tail) if sign < 0 else exact_upper(k, n, tail)
    if method == "kl":
        budget = -math.log(tail) / n
        return kl_lower(p, budget) if sign < 0 else kl_upper(p, budget)
    if method == "wilson":
        end = _wilson(p, n, tail, sign)
    elif method == "hoeffding":
        end = p + sign * hoeffding_margin(n, tail)
    else:
        end = p + sign * bernstein_margin(p * (n - k) / (n - 1), n, tail)
    return min(max(end, 0.0), 1.0)


def _wilson(p: float, n: int, tail: float, sign: int) -> float:
    from scipy.special import ndtri

    z = -float(ndtri(tail))
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    return (p + z * z / (2 * n) + sign * half) / (1 + z * z / n)
