"""Consequences of a mixture's probabilities: weights, factors, epochs."""

import numpy as np
import pytest

from aleator.data.mixtures.mixture import DomainMixture
from aleator.data.mixtures.schedules import AnnealedTemperature, Cooldown
from aleator.data.mixtures.temperature import temperature_probabilities, variance_factor

SIZES = {"es": 1000, "ga": 294, "ug": 76}


def test_every_quantity_of_a_step_is_that_of_its_temperature():
    mixture = DomainMixture(SIZES, Cooldown(high=5), 10)
    sizes = list(SIZES.values())
    for step, temperature in ((4, 5), (5, 1)):
        p = temperature_probabilities(sizes, temperature)
        assert mixture.probabilities(step).tolist() == p.tolist()
        np.testing.assert_allclose(mixture.scalarization_weights(step), p * 1370 / np.array(sizes))
        assert mixture.variance_factor(step) == pytest.approx(variance_factor(p, sizes))


@pytest.mark.parametrize("temperature", [3, Cooldown(5, 1, 0.3), AnnealedTemperature()])
def test_expected_epochs_are_the_sum_over_steps(temperature):
    mixture = DomainMixture(SIZES, temperature, 50)
    each = [8 * mixture.probabilities(t) / np.array([1000, 294, 76]) for t in range(50)]
    np.testing.assert_allclose(mixture.expected_epochs(8), np.sum(each, axis=0))
    np.testing.assert_allclose(mixture.expected_epochs(8, 10, 20), np.sum(each[10:20], axis=0))


def test_cooldown_shows_a_domain_as_often_as_both_its_halves():
    mixture = DomainMixture(SIZES, Cooldown(5, 1, 0.5), 60_000)
    high, low = (temperature_probabilities(list(SIZES.values()), tau) for tau in (5, 1))
    np.testing.assert_allclose(mixture.expected_epochs(256), 30_000 * 256 * (high + low) / np.array([1000, 294, 76]))


@pytest.mark.parametrize("allocation", ["quota", "iid"])
@pytest.mark.parametrize("temperature", [Cooldown(5, 1, 0.3), AnnealedTemperature()], ids=["cooldown", "annealed"])
def test_counts_are_those_of_the_drawn_domains(allocation, temperature):
    mixture = DomainMixture(SIZES, temperature, 100, allocation)
    domains = mixture.domains(10, 90, 16, key=5)
    assert mixture.counts(10, 90, 16, key=5).tolist() == np.bincount(domains.ravel(), minlength=3).tolist()


def test_quotas_are_exact_in_the_long_run_through_a_switch():
    mixture = DomainMixture(SIZES, Cooldown(5, 1, 0.5), 2 * 10**6)
    off = mixture.counts(0, 2 * 10**6, 100, key=7) - mixture.expected_epochs(100) * np.array([1000, 294, 76])
    # The range up to the switch, and the difference of two ranges after it.
    assert np.abs(off).max() <= 3 * (1 + np.log2(2e6) / 3)


def test_one_domain_is_always_drawn_and_an_empty_one_never():
    assert DomainMixture({"a": 5}, 3.0, 10).probabilities(0).tolist() == [1]
    mixture = DomainMixture({"a": 5, "b": 0}, float("inf"), 10)
    assert mixture.probabilities(0).tolist() == [1, 0]
    assert mixture.scalarization_weights(0).tolist() == [1, 0]
    assert mixture.expected_epochs(5).tolist() == [10, 0]


def test_a_callers_array_is_the_callers():
    mixture = DomainMixture(SIZES, 2.0, 10)
    before = mixture.probabilities(0)
    mixture.probabilities(0)[:] = 0
    assert mixture.probabilities(0).tolist() == before.tolist()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"temperature": -1.0}, "temperature must be positive, got -1"),
        ({"sizes": {"a": -1.0}}, "sizes must be finite and not negative, got -1"),
        ({"sizes": {"a": 0, "b": 0}}, "sizes must have at least one positive entry"),
        ({"sizes": {}}, "sizes must be one number for each domain"),
        ({"total_steps": 0}, "total_steps must be at least 1, got 0"),
    ],
)
def test_values_out_of_range_are_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        DomainMixture(**({"sizes": SIZES} | change))


@pytest.mark.plain
def test_an_unknown_allocation_is_refused():
    with pytest.raises(ValueError, match='allocation must be "quota" or "iid", got \'even\''):
        DomainMixture(SIZES, allocation="even")


def test_steps_and_batches_out_of_range_are_refused():
    mixture = DomainMixture(SIZES, 2.0, 10)
    with pytest.raises(ValueError, match="step must not be negative, got -1"):
        mixture.probabilities(-1)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        mixture.expected_epochs(0)
