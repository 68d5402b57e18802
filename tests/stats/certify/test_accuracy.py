"""Bounds on accuracy: the textbook's quantiles, wrong as rarely as they say, and refused where they mean nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aleator.stats import accuracy_bound, clopper_pearson
from aleator.stats.certify.accuracy import METHODS

GUARANTEED = [method for method in METHODS if method != "wilson"]
CASES = [(0, 1), (1, 1), (0, 360), (360, 360), (1, 360), (347, 360), (9500, 10_000)]


@pytest.mark.parametrize("delta", [0.2, 0.05, 1e-6])
@pytest.mark.parametrize(("k", "n"), CASES)
def test_exact_bound_is_where_the_binomial_tail_is_delta(k: int, n: int, delta: float) -> None:
    lower = accuracy_bound(k, n, delta, side="lower").bound
    upper = accuracy_bound(k, n, delta, side="upper").bound
    assert lower == 0 if k == 0 else stats.binom.sf(k - 1, n, lower) == pytest.approx(delta, rel=1e-8)
    assert upper == 1 if k == n else stats.binom.cdf(k, n, upper) == pytest.approx(delta, rel=1e-8)


@pytest.mark.parametrize(("k", "n"), CASES)
def test_two_sided_exact_bound_is_the_clopper_pearson_interval(k: int, n: int) -> None:
    assert accuracy_bound(k, n, 0.1, side="both").bound == pytest.approx(clopper_pearson(k, n, 0.9), rel=1e-13)


def test_wilson_is_scipys_interval() -> None:
    theirs = stats.binomtest(347, 360).proportion_ci(0.95, method="wilson")
    certificate = accuracy_bound(347, 360, 0.05, "wilson", "both")
    assert certificate.bound == pytest.approx((theirs.low, theirs.high), abs=1e-12)
    assert "without a guarantee" in certificate.assumptions


def test_headline_of_a_cifar_sized_test_set() -> None:
    assert round(accuracy_bound(correct=9500, n=10_000, delta=0.05).bound, 4) == 0.9463


def test_margins_of_hoeffding_and_bernstein_at_half() -> None:
    """At p̂ = 1/2 and n = 100: 0.122 and 0.223, see the sheet."""
    hoeffding, bernstein = (
        accuracy_bound(50, 100, 0.05, m, "upper").bound - 0.5 for m in ("hoeffding", "empirical_bernstein")
    )
    assert hoeffding == pytest.approx(math.sqrt(math.log(20) / 200), rel=1e-12)
    assert (round(hoeffding, 3), round(bernstein, 3)) == (0.122, 0.223)


@pytest.mark.parametrize("n", [40, 400])
@pytest.mark.parametrize("p", [0.02, 0.5, 0.97])
@pytest.mark.parametrize("method", GUARANTEED)
def test_every_guaranteed_bound_covers_exactly_often_enough(method: str, p: float, n: int) -> None:
    """No simulation: the coverage is a finite sum over the n + 1 possible counts."""
    weights = stats.binom.pmf(np.arange(n + 1), n, p)
    lower = np.array([accuracy_bound(k, n, 0.05, method, "lower").bound for k in range(n + 1)])  # type: ignore[arg-type]
    upper = np.array([accuracy_bound(k, n, 0.05, method, "upper").bound for k in range(n + 1)])  # type: ignore[arg-type]
    assert weights[lower <= p].sum() >= 0.95
    assert weights[upper >= p].sum() >= 0.95


@given(n=st.integers(2, 3000), data=st.data(), delta=st.floats(1e-9, 0.4), method=st.sampled_from(METHODS))
def test_bounds_are_monotone_in_correct_and_delta_and_pay_for_candidates(
    n: int, data: st.DataObject, delta: float, method: str
) -> None:
    k = data.draw(st.integers(0, n - 1))

    def bound(correct: int, d: float, candidates: int = 1) -> float:
        return accuracy_bound(correct, n, d, method, "lower", candidates).bound  # type: ignore[arg-type,return-value]

    assert 0 <= bound(k, delta) <= k / n + 1e-12
    # Bernstein's margin grows with the variance, so that it alone may lose by one more right answer.
    assert method == "empirical_bernstein" or bound(k, delta) <= bound(k + 1, delta) + 1e-12
    assert bound(k, delta / 2) <= bound(k, delta) + 1e-12
    assert bound(k, delta, candidates=4) == bound(k, delta / 4)


@pytest.mark.parametrize("method", GUARANTEED)
def test_more_examples_at_the_same_rate_bound_tighter(method: str) -> None:
    bounds = [accuracy_bound(9 * n, 10 * n, 0.05, method).bound for n in (1, 3, 10, 100, 10_000)]  # type: ignore[arg-type]
    assert bounds == sorted(bounds)
    assert bounds[-1] == pytest.approx(0.9, abs=0.01)


def test_mirror_of_a_lower_bound_is_the_upper_bound() -> None:
    for method in METHODS:
        low = accuracy_bound(3, 50, 0.05, method, "lower").bound
        high = accuracy_bound(47, 50, 0.05, method, "upper").bound
        assert isinstance(low, float)
        assert high == pytest.approx(1 - low, abs=1e-12)


def test_no_examples_are_lost_at_a_large_n() -> None:
    """All of 10⁹ right: the bound is δ^(1/n), whose distance to 1 float32 does not resolve."""
    n = 10**9
    for method in ("clopper_pearson", "kl"):
        bound = accuracy_bound(n, n, 0.05, method).bound  # type: ignore[arg-type]
        assert 1 - bound == pytest.approx(math.log(20) / n, rel=1e-6)  # type: ignore[operator]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"correct": 0.95}, "correct must be a whole number in [0, 100], got 0.95"),
        ({"correct": 101}, "correct must be a whole number in [0, 100], got 101"),
        ({"correct": -1}, "correct must be a whole number in [0, 100], got -1"),
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"delta": 0.0}, "delta must be in (0, 1), got 0.0"),
        ({"delta": float("nan")}, "delta must be in (0, 1), got nan"),
        (
            {"method": "wald"},
            "method must be one of clopper_pearson, hoeffding, kl, empirical_bernstein, wilson, got 'wald'",
        ),
        ({"side": "left"}, "side must be one of lower, upper, both, got 'left'"),
        ({"candidates": 0}, "candidates must be a whole number of at least 1, got 0"),
        (
            {"correct": 1, "n": 1, "method": "empirical_bernstein"},
            "n must be at least 2 for empirical_bernstein, got 1",
        ),
    ],
)
def test_refuses_in_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(
        ValueError, match="^" + message.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[") + "$"
    ):
        accuracy_bound(**{"correct": 90, "n": 100, **arguments})


def test_a_set_used_for_choosing_is_refused_until_the_candidates_are_counted() -> None:
    with pytest.raises(ValueError, match="candidates must be the number of models that were compared"):
        accuracy_bound(90, 100, used_for_choosing=True)
    counted = accuracy_bound(90, 100, candidates=10, used_for_choosing=True)
    assert counted.bound == accuracy_bound(90, 100, delta=0.005).bound
    assert "one of 10 models" in counted.assumptions
