"""Temperature sampling against 40-digit arithmetic, and its limits."""

import itertools

import mpmath
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aleator.data.mixtures.temperature import scalarization_weights, temperature_probabilities, variance_factor

SIZES = st.lists(st.integers(0, 10**13), min_size=1, max_size=9).filter(any)
TEMPERATURES = st.floats(0.2, 1e9)


def exact(sizes, temperature):
    """p, w and F in 40 digits."""
    with mpmath.workdps(40):
        powers = [mpmath.mpf(n) ** (1 / mpmath.mpf(temperature)) if n else mpmath.mpf(0) for n in sizes]
        p = [power / mpmath.fsum(powers) for power in powers]
        w = [q * sum(sizes) / n if n else mpmath.mpf(0) for q, n in zip(p, sizes, strict=True)]
        return p, w, mpmath.fsum(a * b for a, b in zip(p, w, strict=True))


@given(SIZES, TEMPERATURES)
def test_probabilities_weights_and_factor_are_those_of_40_digits(sizes, temperature):
    p = temperature_probabilities(sizes, temperature)
    expected_p, expected_w, expected_factor = exact(sizes, temperature)
    # Rounding of ln(n) / τ, which is up to 150 at τ = 0.2, is carried into p as a relative error.
    np.testing.assert_allclose(p, np.array(expected_p, float), rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(scalarization_weights(p, sizes), np.array(expected_w, float), rtol=1e-12, atol=1e-300)
    assert variance_factor(p, sizes) == pytest.approx(float(expected_factor), rel=1e-12)


@pytest.mark.parametrize(
    ("sizes", "factors"),
    [
        ((56e6, 0.6e6), (1.66, 3.76, 8.31, 22.8)),
        ((2733, 162, 39, 1), (2.25, 8.01, 29.8, 174.5)),
        ((1000, 1000, 294, 519, 102, 538, 1000, 83, 76), (1.20, 1.45, 1.79, 2.52)),
    ],
)
def test_variance_factors_of_the_papers_data(sizes, factors):
    found = [variance_factor(temperature_probabilities(sizes, tau), sizes) for tau in (2, 3, 5, 100)]
    assert found == [pytest.approx(factor, abs=0.5 * 10.0 ** -(2 if factor < 10 else 1)) for factor in factors]


@given(SIZES, TEMPERATURES)
def test_probabilities_sum_to_one_keep_the_order_and_leave_out_empty_domains(sizes, temperature):
    p = temperature_probabilities(sizes, temperature)
    assert p.sum() == pytest.approx(1, abs=1e-14)
    assert all(q > 0 or n == 0 or temperature < 1 for q, n in zip(p, sizes, strict=True))
    assert all(q == 0 for q, n in zip(p, sizes, strict=True) if n == 0)
    order = np.argsort(sizes)
    assert (np.diff(p[order]) >= -1e-15).all()


@given(SIZES)
def test_temperature_one_is_proportional_and_infinity_is_uniform(sizes):
    n = np.array(sizes, float)
    np.testing.assert_allclose(temperature_probabilities(sizes, 1), n / n.sum(), rtol=1e-13)
    for temperature in (1e12, float("inf")):
        np.testing.assert_allclose(temperature_probabilities(sizes, temperature), (n > 0) / (n > 0).sum(), rtol=1e-10)


@given(SIZES, TEMPERATURES)
def test_weights_average_to_one_under_proportional_sampling(sizes, temperature):
    w = scalarization_weights(temperature_probabilities(sizes, temperature), sizes)
    assert temperature_probabilities(sizes, 1) @ w == pytest.approx(1, abs=1e-12)


@given(SIZES)
def test_the_factor_is_at_least_one_and_grows_with_temperature(sizes):
    factors = [variance_factor(temperature_probabilities(sizes, tau), sizes) for tau in np.geomspace(1, 1e4, 20)]
    assert factors[0] == pytest.approx(1, abs=1e-12)
    assert all(b >= a - 1e-12 for a, b in itertools.pairwise(factors))
    unequal = len({n for n in sizes if n}) > 1
    largest, smallest = max(sizes), min(n for n in sizes if n)
    if not unequal:
        assert factors[-1] == pytest.approx(1, abs=1e-12)
    elif largest > 1.01 * smallest:
        assert factors[-1] > 1


def test_sizes_up_to_1e13_and_temperatures_up_to_1e9_neither_overflow_nor_vanish():
    p = temperature_probabilities([1e13, 1.0], 1e9)
    assert p[0] - p[1] == pytest.approx(np.log(1e13) / 1e9 / 2, rel=1e-6)
    assert temperature_probabilities([1e13, 1.0], 0.05)[1] == pytest.approx(1e-260)
    assert temperature_probabilities([1e13, 1.0], 0.02).tolist() == [1, 0]  # 10⁻⁶⁵⁰ is below what a float holds


@pytest.mark.parametrize("temperature", [0, -1.0, float("nan")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature must be positive, got {temperature:g}"):
        temperature_probabilities([1, 2], temperature)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ([3, -2.0], "sizes must be finite and not negative, got -2"),
        ([3, float("nan")], "sizes must be finite and not negative, got nan"),
        ([0, 0.0], r"sizes must have at least one positive entry, got \[0.0, 0.0\]"),
        ([], r"sizes must be one number for each domain, got shape \(0,\)"),
    ],
)
def test_sizes_that_are_none_are_refused(sizes, reason):
    with pytest.raises(ValueError, match=reason):
        temperature_probabilities(sizes, 2)


def test_weights_need_as_many_sizes_as_probabilities():
    with pytest.raises(ValueError, match=r"one entry for each of the 3 sizes, got shape \(2,\)"):
        scalarization_weights([0.5, 0.5], [1, 2, 3])


@pytest.mark.parametrize("temperature", [1e-310, 5e-324])
def test_the_smallest_temperatures_show_the_largest_domains_alone(temperature):
    assert temperature_probabilities([5, 7, 0, 7], temperature).tolist() == [0, 0.5, 0, 0.5]
