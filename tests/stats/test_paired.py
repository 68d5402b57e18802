"""The paired difference is Student's test, and the smallest detectable difference is found with 80 % power."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats

from aleator.stats import paired_difference
from aleator.stats.paired import detectable_effect

numbers = st.floats(-1e6, 1e6)


def test_paired_difference_is_students_test() -> None:
    a, b = [0.95, 0.96, 0.97, 0.955], [0.93, 0.95, 0.94, 0.95]
    ours, theirs = paired_difference(a, b, 0.9), stats.ttest_rel(a, b)
    assert ours.mean == pytest.approx(np.mean(np.subtract(a, b)), rel=1e-12)
    assert ours.p_value == pytest.approx(theirs.pvalue, rel=1e-12)
    assert ours.interval == pytest.approx(tuple(theirs.confidence_interval(0.9)), rel=1e-12)


@given(pairs=st.lists(st.tuples(numbers, numbers), min_size=1, max_size=8))
def test_exchanging_the_variants_mirrors_the_result(pairs: list[tuple[float, float]]) -> None:
    a, b = [x for x, _ in pairs], [y for _, y in pairs]
    there, back = paired_difference(a, b), paired_difference(b, a)
    assert back.mean == -there.mean
    assert back.n == there.n == len(pairs)
    if there.interval is None:
        assert (back.interval, back.p_value, back.smallest_detectable) == (None, None, None)
    else:
        assert back.interval == pytest.approx((-there.interval[1], -there.interval[0]), rel=1e-6, abs=1e-6)
        assert back.p_value == pytest.approx(there.p_value, rel=1e-6)
        assert back.smallest_detectable == pytest.approx(there.smallest_detectable)
        assert all(map(math.isfinite, (*there.interval, there.p_value, there.smallest_detectable)))


@given(value=numbers, n=st.integers(1, 6))
def test_equal_runs_differ_by_zero_and_claim_nothing(value: float, n: int) -> None:
    difference = paired_difference([value] * n, [value] * n)
    assert (difference.mean, difference.interval, difference.p_value) == (0.0, None, None)
    assert difference.smallest_detectable is None


def test_a_constant_difference_and_a_single_seed_have_no_interval() -> None:
    for a, b in [([0.3, 0.2], [0.1, 0.0]), ([0.95], [0.9])]:
        difference = paired_difference(a, b)
        assert difference.mean > 0
        assert difference.interval is None
        assert difference.p_value is None
        assert difference.smallest_detectable is None


def test_interval_covers_as_often_as_it_says() -> None:
    """2 000 comparisons of 3 seeds whose common part is ten times the spread; false-alarm rate below 1e-6."""
    rng = np.random.default_rng(2)
    covered = 0
    for _ in range(2000):
        common = rng.normal(0, 10, 3)
        a, b = common + rng.normal(0.5, 1, 3), common + rng.normal(0, 1, 3)
        low, high = paired_difference(a.tolist(), b.tolist()).interval or (math.nan, math.nan)
        covered += low <= 0.5 <= high
    assert abs(covered / 2000 - 0.95) < 5 * math.sqrt(0.95 * 0.05 / 2000)


@pytest.mark.parametrize("n", [2, 3, 5, 10])
def test_the_smallest_detectable_difference_is_found_four_times_out_of_five(n: int) -> None:
    """20 000 simulated tests with that true difference; false-alarm rate below 1e-6 (five standard errors)."""
    rng = np.random.default_rng(n)
    differences = rng.normal(detectable_effect(n), 1.0, (20_000, n))
    found = np.mean(stats.ttest_1samp(differences, 0.0, axis=1).pvalue < 0.05)
    assert abs(found - 0.8) < 5 * math.sqrt(0.8 * 0.2 / 20_000)


def test_the_smallest_detectable_difference_tends_to_the_normal_formula() -> None:
    """For many pairs it is (z_0.975 + z_0.8)/√n, the sample-size formula of every textbook."""
    expected = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / math.sqrt(100_000)
    assert detectable_effect(100_000) == pytest.approx(expected, rel=1e-4)


def test_the_power_of_two_pairs_is_the_integral_over_their_spread() -> None:
    """With the spread v fixed T is normal: the power is the mean over v of its two tails, here by quadrature."""
    critical, noncentrality = stats.t.ppf(0.975, 1), detectable_effect(2) * math.sqrt(2)

    def tails(v: float) -> float:
        both = stats.norm.cdf(noncentrality - critical * v) + stats.norm.cdf(-noncentrality - critical * v)
        return float(both * stats.chi.pdf(v, 1))

    assert integrate.quad(tails, 0, 8, points=[1.0])[0] == pytest.approx(0.8, abs=1e-8)


def test_detectable_effect_falls_with_more_seeds() -> None:
    effects = [detectable_effect(n) for n in range(2, 30)]
    assert effects == sorted(effects, reverse=True)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0, 2.0], "got 1 and 2 values"),
        ([], [], "a and b must hold at least one pair, got none"),
        ([math.inf], [1.0], "a must be finite numbers, got inf"),
    ],
)
def test_bad_input_is_explained(a: list[float], b: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        paired_difference(a, b)
