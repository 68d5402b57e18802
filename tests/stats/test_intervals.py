"""The intervals are the textbook's, and cover the truth as often as they say."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aleator.stats import clopper_pearson, mean_interval


@pytest.mark.parametrize("level", [0.8, 0.95, 0.999])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (1, 1), (0, 360), (360, 360), (1, 360), (347, 360), (9561, 10_000)])
def test_clopper_pearson_is_scipys_exact_interval(k: int, n: int, level: float) -> None:
    theirs = stats.binomtest(k, n).proportion_ci(confidence_level=level, method="exact")
    assert clopper_pearson(k, n, level) == pytest.approx((theirs.low, theirs.high), abs=1e-10)


def test_no_success_and_no_failure_have_the_closed_form() -> None:
    """With no success the upper end solves (1−p)^n = α/2: the rule of three, made exact."""
    for n in (1, 10, 500):
        assert clopper_pearson(0, n) == pytest.approx((0.0, 1 - 0.025 ** (1 / n)), rel=1e-12)
        assert clopper_pearson(n, n) == pytest.approx((0.025 ** (1 / n), 1.0), rel=1e-12)


@given(n=st.integers(1, 5000), data=st.data(), level=st.floats(0.01, 0.999))
def test_clopper_pearson_holds_the_estimate_and_mirrors(n: int, data: st.DataObject, level: float) -> None:
    k = data.draw(st.integers(0, n))
    low, high = clopper_pearson(k, n, level)
    assert 0 <= low <= k / n <= high <= 1
    assert clopper_pearson(n - k, n, level) == pytest.approx((1 - high, 1 - low), abs=1e-9)


@pytest.mark.parametrize("p", [0.02, 0.5, 0.97])
def test_clopper_pearson_covers_at_least_its_level_exactly(p: float) -> None:
    """No simulation: the coverage at p is a finite sum over the 41 possible counts."""
    n = 40
    covered = [low <= p <= high for low, high in (clopper_pearson(k, n) for k in range(n + 1))]
    assert stats.binom.pmf(np.arange(n + 1), n, p)[covered].sum() >= 0.95


def test_mean_interval_is_scipys() -> None:
    values = [0.953, 0.961, 0.949, 0.957, 0.96]
    theirs = stats.ttest_1samp(values, 0.0).confidence_interval(0.9)
    assert mean_interval(values, 0.9) == pytest.approx((theirs.low, theirs.high), rel=1e-12)


def test_mean_interval_of_two_values_has_the_closed_form() -> None:
    """With one degree of freedom t is Cauchy: its 97.5 % quantile is tan(0.475 π)."""
    interval = mean_interval([1.0, 3.0])
    assert interval == pytest.approx((2 - math.tan(0.475 * math.pi), 2 + math.tan(0.475 * math.pi)), rel=1e-10)


def test_mean_interval_covers_the_mean_as_often_as_it_says() -> None:
    """4 000 samples of 3; false-alarm rate below 1e-6 (five standard errors)."""
    rng = np.random.default_rng(1)
    intervals = [mean_interval(sample) for sample in rng.normal(5.0, 2.0, (4000, 3)).tolist()]
    covered = sum(i is not None and i[0] <= 5.0 <= i[1] for i in intervals)
    assert abs(covered / 4000 - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 4000)


def test_values_without_a_spread_have_no_interval() -> None:
    assert mean_interval([0.9]) is None
    assert mean_interval([0.9, 0.9, 0.9]) is None
    assert mean_interval([0.1 + 0.2, 0.3]) is None  # one unit in the last place


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: clopper_pearson(3, 2), r"successes must be in \[0, 2\], got 3"),
        (lambda: clopper_pearson(-1, 2), r"successes must be in \[0, 2\], got -1"),
        (lambda: clopper_pearson(0, 0), "trials must be at least 1, got 0"),
        (lambda: clopper_pearson(0, 1, 1.0), r"level must be in \(0, 1\), got 1.0"),
        (lambda: mean_interval([]), "values must hold at least one number, got none"),
        (lambda: mean_interval([1.0, math.nan]), "values must be finite numbers, got nan"),
    ],
)
def test_bad_input_is_explained(call: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        call()  # type: ignore[operator]
