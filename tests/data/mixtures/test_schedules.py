"""Schedules change where they say and nowhere else."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aleator.data.mixtures.mixture import DomainMixture
from aleator.data.mixtures.schedules import (
    AnnealedTemperature,
    AutoCooldown,
    Cooldown,
    OrderMatters,
    TemperatureSteps,
    Unimax,
)
from aleator.data.mixtures.temperature import temperature_probabilities

SIZES = {"en": 1000, "it": 100, "sw": 10}
AT = {tau: temperature_probabilities(list(SIZES.values()), tau).tolist() for tau in (1, 2, 5)}


@given(st.integers(0, 100), st.integers(1, 500))
def test_cooldown_changes_probabilities_exactly_at_its_switch(percent, total):
    mixture = DomainMixture(SIZES, Cooldown(high=5, low=1, at=percent / 100), total)
    switch = percent * total // 100
    for step in {0, switch - 1, switch, switch + 1, total - 1, total} - {-1}:
        assert mixture.probabilities(step).tolist() == AT[5 if step < switch else 1]


def test_schedules_switch_at_the_step_that_a_third_of_the_training_is():
    assert math.floor(0.29 * 100) == 28  # why the fraction that is meant counts, and not its float
    assert Cooldown(at=1 / 3).changes(3000) == (1000,)
    assert TemperatureSteps([(0, 5), (1 / 3, 2), (2 / 3, 1)]).changes(3000) == (1000, 2000)
    assert OrderMatters(["sw"], at=1 / 3).changes(3000) == (1000,)
    assert [Cooldown(at=0.29).temperature(t, 100) for t in (28, 29)] == [5, 1]


def test_a_list_of_pairs_holds_each_temperature_from_its_fraction_on():
    mixture = DomainMixture(SIZES, [(0, 5), (0.25, 2), (0.5, 1)], 8)
    assert [mixture.probabilities(t).tolist() for t in range(8)] == [AT[5]] * 2 + [AT[2]] * 2 + [AT[1]] * 4


def test_of_two_changes_at_the_same_step_the_later_holds():
    mixture = DomainMixture(SIZES, [(0, 5), (0.1, 2), (0.2, 1)], 4)
    assert mixture.probabilities(0).tolist() == AT[1]


@pytest.mark.parametrize(
    ("shape", "of", "middle"),
    [("linear", "temperature", 3), ("linear", "inverse", 1 / 0.6), ("cosine", "temperature", 3)],
)
def test_an_annealed_temperature_starts_ends_and_halves_where_it_should(shape, of, middle):
    schedule = AnnealedTemperature(5, 1, shape, of)
    found = [schedule.temperature(t, 101) for t in (0, 50, 100, 200)]
    assert found == [pytest.approx(tau) for tau in (5, middle, 1, 1)]
    temperatures = [schedule.temperature(t, 101) for t in range(101)]
    assert all(a >= b for a, b in itertools.pairwise(temperatures))
    if shape == "cosine":  # flat at the ends: 1 % of the way changes the temperature by less than 0.1 % of its range
        assert temperatures[0] - temperatures[1] < 0.004


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6), st.floats(0.1, 10), st.integers(1, 10000))
def test_unimax_is_uniform_up_to_its_cap(sizes, cap, budget):
    names = {str(i): n for i, n in enumerate(sizes)}
    p = Unimax(max_epochs=cap, budget=budget).probabilities(names, 0, 1)
    assert p.sum() == pytest.approx(1)
    caps = cap * np.array(sizes)
    if budget >= caps.sum():
        np.testing.assert_allclose(p, caps / caps.sum())
        return
    draws = budget * p
    assert (draws <= caps * (1 + 1e-9)).all()
    # A domain below its cap has the largest share of all.
    assert all(d >= draws.max() * (1 - 1e-9) for d, c in zip(draws, caps, strict=True) if d < c * (1 - 1e-9))


def test_order_matters_shows_low_resource_domains_from_its_switch_on():
    mixture = DomainMixture(SIZES, OrderMatters(["sw"], at=0.75), 8)
    assert mixture.probabilities(5).tolist() == [pytest.approx(10 / 11), pytest.approx(1 / 11), 0]
    assert mixture.probabilities(6).tolist() == AT[1]


def test_a_function_of_the_step_gives_temperatures_or_probabilities():
    assert DomainMixture(SIZES, lambda step: 5 if step < 3 else 2, 8).probabilities(3).tolist() == AT[2]
    assert DomainMixture(SIZES, lambda step: [0.5, 0.25, 0.25], 8).probabilities(3).tolist() == [0.5, 0.25, 0.25]


# --- AutoCooldown


def told(schedule, *losses):
    return [schedule.observe(10 * t, {"sw": loss}) for t, loss in enumerate(losses)]


def test_auto_cooldown_switches_after_patience_losses_without_improvement():
    auto = AutoCooldown(patience=2)
    assert told(auto, 3.0, 2.0, 2.1, 1.9, 1.95, 1.9, 1.0, 5.0) == [False] * 5 + [True] + [False] * 2
    assert auto.switch_step == 50
    assert [auto.temperature(t, 100) for t in (0, 49, 50, 99)] == [5, 5, 1, 1]


def test_auto_cooldown_switches_for_the_first_domain_that_turns():
    auto = AutoCooldown(patience=1)
    auto.observe(0, {"it": 1.0, "sw": 1.0})
    assert auto.observe(1, {"it": 0.5, "sw": 1.1})


def test_improvement_counts_from_the_least_amount_and_not_a_number_is_none():
    auto = AutoCooldown(patience=2, min_improvement=0.5)
    assert told(auto, 3.0, 2.6, float("nan")) == [False, False, True]


@pytest.mark.parametrize("broken", [float("nan"), float("inf")])
def test_a_first_loss_that_is_not_finite_is_no_best(broken):
    auto = AutoCooldown(patience=2)
    assert told(auto, broken, broken, 3.0, 2.0, 1.0, 1.5, 1.5) == [False] * 6 + [True]


def test_after_its_switch_auto_cooldown_is_cooldown():
    auto = DomainMixture(SIZES, AutoCooldown(patience=1), 100)
    fixed = DomainMixture(SIZES, Cooldown(at=0.4), 100)
    auto.observe(20, {"sw": 1.0})
    assert auto.observe(40, {"sw": 1.0})
    assert [auto.probabilities(t).tolist() for t in range(100)] == [fixed.probabilities(t).tolist() for t in range(100)]


def test_a_mixture_watches_only_domains_that_it_shows_more_than_in_proportion():
    mixture = DomainMixture(SIZES, AutoCooldown(patience=1), 100)
    assert mixture.upsampled == ("it", "sw")
    assert not any(mixture.observe(t, {"en": float(t)}) for t in range(5))
    mixture.observe(5, {"en": 0.0, "sw": 1.0})
    assert mixture.observe(6, {"en": 0.0, "sw": 1.0})


def test_auto_cooldown_continues_from_its_state():
    first, second = (DomainMixture(SIZES, AutoCooldown(patience=2), 100) for _ in range(2))
    first.observe(1, {"sw": 1.0})
    first.observe(2, {"sw": 2.0})
    second.load_state_dict(first.state_dict())
    assert second.observe(3, {"sw": 3.0})
    assert first.probabilities(3).tolist() == AT[5]
    first.load_state_dict(second.state_dict())
    assert first.probabilities(2).tolist() == AT[5]
    assert first.probabilities(3).tolist() == AT[1]


# --- bad input


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: Cooldown(high=-5), "temperature must be positive, got -5"),
        (lambda: Cooldown(at=1.5), r"at must be in \[0, 1\], got 1.5"),
        (lambda: TemperatureSteps([(0.1, 5)]), r"steps must begin with fraction 0 and rise, got fractions \[0.1\]"),
        (lambda: TemperatureSteps([(0, 5), (0, 1)]), "must begin with fraction 0 and rise"),
        (lambda: AnnealedTemperature(end=0), "end must be positive and finite, got 0"),
        (lambda: Unimax(max_epochs=0, budget=1), "max_epochs must be positive, got 0"),
        (lambda: Unimax(max_epochs=1, budget=-1), "budget must be positive, got -1"),
        (lambda: AutoCooldown(patience=0), "patience must be at least 1, got 0"),
        (lambda: AutoCooldown(patience=1, min_improvement=-1), "min_improvement must not be negative, got -1"),
        (lambda: DomainMixture(SIZES, OrderMatters(["xx"]), 5), "domain must be one of en, it, sw, got 'xx'"),
        (lambda: DomainMixture(SIZES, OrderMatters(list(SIZES)), 5), "must leave a domain that is not empty"),
        (lambda: DomainMixture(SIZES, lambda step: -1.0, 5), "temperature must be positive, got -1"),
        (lambda: DomainMixture(SIZES, lambda step: [0.5, 0.5], 5), r"must be 3 numbers, .* got \[0.5, 0.5\]"),
        (lambda: DomainMixture(SIZES, lambda step: [0.5, 0.5, 0.5], 5), "that sum to 1"),
        (lambda: DomainMixture({"a": 1, "b": 0}, lambda step: [0.5, 0.5], 5), "of empty domains must be 0"),
        (lambda: DomainMixture(SIZES, AutoCooldown(1), 5).observe(1, {"xx": 1.0}), "must be one of en, it, sw"),
    ],
)
def test_values_out_of_range_are_refused(make, reason):
    with pytest.raises(ValueError, match=reason):
        make()


@pytest.mark.plain
@pytest.mark.parametrize(("name", "value"), [("shape", "square"), ("of", "tau")])
def test_unknown_words_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be .*, got '{value}'"):
        AnnealedTemperature(**{name: value})


@pytest.mark.parametrize("name", ["start", "end"])
def test_nothing_is_annealed_from_or_to_infinity(name):
    with pytest.raises(ValueError, match=f"{name} must be positive and finite, got inf"):
        AnnealedTemperature(**{name: math.inf})
