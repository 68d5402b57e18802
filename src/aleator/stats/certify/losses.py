"""Bounds on the mean of losses in [0, 1] on new examples, and on the difference of two models.

With probability at least 1 − δ the mean of new examples is below

    Hoeffding              mean + √(ln(1/δ)/(2n))
    empirical Bernstein    mean + √(2V ln(2/δ)/n) + 7 ln(2/δ)/(3(n−1))

and above the same with minus. V is the unbiased sample variance: empirical Bernstein wins where it is small, and loses
where it is not (at V = 1/4 and n = 100 it is 0.223 against 0.122). For values in an interval of length r the margins of
Hoeffding and the last term of Bernstein are r times as long.

Hoeffding, JASA 58, 1963; Maurer and Pontil, COLT 2009, arXiv 0907.3740, Theorem 4; McNemar, Psychometrika 12, 1947.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal, SupportsIndex, TypeAlias

from aleator.stats.certify.certificate import (
    Certificate,
    Side,
    assumptions,
    checked_candidates,
    checked_count,
    checked_delta,
    sided,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from torch import Tensor

Values: TypeAlias = "Sequence[float] | npt.NDArray[np.generic] | Tensor"
LossMethod: TypeAlias = Literal["hoeffding", "empirical_bernstein"]

LOSS_METHODS: tuple[LossMethod, ...] = ("hoeffding", "empirical_bernstein")


def hoeffding_margin(n: int, delta: float, span: float = 1.0) -> float:
    """Return r √(ln(1/δ)/(2n)), one-sided, for values in an interval of length ``span``."""
    return span * math.sqrt(-math.log(delta) / (2 * n))


def bernstein_margin(variance: float, n: int, delta: float, span: float = 1.0) -> float:
    """Return Maurer and Pontil's margin, one-sided, for n ≥ 2 values in an interval of length ``span``."""
    log = math.log(2) - math.log(delta)
    return math.sqrt(2 * variance * log / n) + span * 7 * log / (3 * (n - 1))


def loss_bound(
    values: Values,
    delta: float = 0.05,
    method: LossMethod = "empirical_bernstein",
    side: Side = "upper",
    candidates: SupportsIndex = 1,
    *,
    used_for_choosing: bool = False,
) -> Certificate:
    """Bound the mean loss of one fixed model on new examples.

    Args:
        values: the loss of each held-out example, in [0, 1]; at least one, at least two for empirical Bernstein.
        delta: probability in (0, 1) that the bound may be wrong.
        method: ``"empirical_bernstein"`` or ``"hoeffding"``.
        side: ``"upper"``, ``"lower"``, or ``"both"``, which takes δ/2 on each side.
        candidates: m, the models among which one may be chosen on these examples: δ/m for each.
        used_for_choosing: whether the examples served for early stopping or for choosing among models.

    Raises:
        ValueError: if a value is not in [0, 1], there are too few, another argument is out of range, or the examples
            were used for choosing and the candidates are not counted.
    """
    losses = _checked(values, "values")
    return _bounded(losses, (0.0, 1.0), "losses", delta, method, side, candidates, used_for_choosing)


def difference_bound(
    a: Values,
    b: Values,
    delta: float = 0.05,
    method: LossMethod = "empirical_bernstein",
    side: Side = "both",
    candidates: SupportsIndex = 1,
    *,
    used_for_choosing: bool = False,
) -> Certificate:
    """Bound the mean difference a − b of two fixed models on new examples, from the same held-out examples.

    What one example does to both models cancels, so the bound is tighter than the difference of two bounds.

    Args:
        a: losses of the first model, or 1 where it is right and 0 where it is not; in [0, 1].
        b: losses of the second, in the same order.
        delta: probability in (0, 1) that the bound may be wrong.
        method: ``"empirical_bernstein"`` or ``"hoeffding"``, for values in [−1, 1].
        side: ``"both"``, which takes δ/2 on each side, ``"lower"`` or ``"upper"``.
        candidates: m, the pairs among which one may be chosen on these examples: δ/m for each.
        used_for_choosing: whether the examples served for early stopping or for choosing among models.

    Raises:
        ValueError: as `loss_bound`, or if a and b differ in length.
    """
    first, second = _checked(a, "a"), _checked(b, "b")
    if len(first) != len(second):
        raise ValueError(f"a and b must have one value per example each, got {len(first)} and {len(second)}")
    return _bounded(first - second, (-1.0, 1.0), "differences", delta, method, side, candidates, used_for_choosing)


def mcnemar(b: SupportsIndex, c: SupportsIndex) -> float:
    """Return the exact two-sided p-value of McNemar's test that two models are right equally often.

    min(1, 2 P[Bin(b + c, ½) ≤ min(b, c)]): examples on which both are right, or both wrong, say nothing.

    Args:
        b: examples on which only the first model is right.
        c: examples on which only the second one is.

    Raises:
        ValueError: if a count is negative or not whole.
    """
    b, c = checked_count("b", b, 0), checked_count("c", c, 0)
    if b + c == 0:
        return 1.0
    from scipy.stats import binom

    return min(1.0, 2 * float(binom.cdf(min(b, c), b + c, 0.5)))


def _bounded(
    values: npt.NDArray[np.float64],
    ends: tuple[float, float],
    what: str,
    delta: float,
    method: LossMethod,
    side: Side,
    candidates: SupportsIndex,
    used_for_choosing: bool,
) -> Certificate:
    delta, candidates = checked_delta(delta), checked_candidates(candidates, used_for_choosing)
    if method not in LOSS_METHODS:
        raise ValueError(f"method must be one of {', '.join(LOSS_METHODS)}, got {method!r}")
    n, (low, high) = len(values), ends
    if method == "empirical_bernstein" and n < 2:
        raise ValueError(f"empirical_bernstein needs at least 2 examples, got {n}")
    mean = math.fsum(values) / n
    margin: Callable[[float], float]
    if method == "hoeffding":
        margin = lambda tail: hoeffding_margin(n, tail, high - low)  # noqa: E731
    else:
        variance = math.fsum((values - mean) ** 2) / (n - 1)
        margin = lambda tail: bernstein_margin(variance, n, tail, high - low)  # noqa: E731
    return Certificate(
        bound=sided(
            lambda t: max(mean - margin(t), low), lambda t: min(mean + margin(t), high), side, delta / candidates
        ),
        estimate=mean,
        method=method,
        side=side,
        delta=delta,
        candidates=candidates,
        n=n,
        counted=f"{what} in [{low:g}, {high:g}] of {n} examples",
        assumptions=assumptions(candidates),
    )


def _checked(values: Values, name: str) -> npt.NDArray[np.float64]:
    import numpy as np

    if hasattr(values, "detach"):
        values = values.detach().cpu().double()
    array = np.asarray(values, np.float64)
    if array.ndim != 1 or not len(array):
        raise ValueError(f"{name} must be one number for each example, at least one, got shape {array.shape}")
    outside = ~((array >= 0) & (array <= 1))  # nan is outside
    if outside.any():
        raise ValueError(f"{name} must be in [0, 1], got {array[outside][0]:g}")
    return array
