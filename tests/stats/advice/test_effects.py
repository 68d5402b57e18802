"""Effects of arms: against closed forms, and where a claim is allowed."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from aleator.stats import ArmResults, Effect, ExampleResults, arm_effects
from aleator.stats.advice.effects import best_first, level_of_look, student_quantile


def arm(values, first=0, examples=None):
    seeds = range(first, first + len(values))
    each = {} if examples is None else dict(zip(seeds, examples, strict=True))
    return ArmResults(dict(zip(seeds, map(float, values), strict=True)), each)


def two_way(table):
    """The residual mean square of a complete two-way layout, by its formula."""
    table = np.asarray(table)
    rest = table - table.mean(0) - table.mean(1, keepdims=True) + table.mean()
    return (rest**2).sum() / ((table.shape[0] - 1) * (table.shape[1] - 1))


def test_one_arm_has_students_paired_interval():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(2, 7))
    effect = arm_effects(arm(b), {"a": arm(a)})["a"]
    low, high = ttest_rel(a, b).confidence_interval(1 - 0.025)
    assert effect.interval == pytest.approx((low, high))
    assert effect.df == 6


def test_the_variance_of_several_arms_is_the_residual_of_seed_and_arm():
    rng = np.random.default_rng(3)
    table = rng.normal(size=(5, 8)) + 10 * rng.normal(size=8)
    effects = arm_effects(arm(table[0]), {f"{row}": arm(table[row]) for row in range(1, 5)})
    assert all(effect.pooled and effect.df == 28 for effect in effects.values())
    half = t.isf(0.025 / 4 / 2, 28) * math.sqrt(2 * two_way(table) / 8)
    low, high = effects["2"].interval
    assert (high - low) / 2 == pytest.approx(half)


def test_an_arm_that_joined_late_adds_its_own_cells_to_the_residual():
    rng = np.random.default_rng(4)
    base, early, late = rng.normal(size=12), rng.normal(size=12), rng.normal(size=6)
    effect = arm_effects(arm(base), {"early": arm(early), "late": arm(late, first=6)})["late"]
    seeds = np.r_[np.arange(12), np.arange(12), np.arange(6, 12)]
    rows = np.r_[np.zeros(12), np.ones(12), np.full(6, 2)]
    design = np.c_[seeds[:, None] == np.arange(12), rows[:, None] == np.arange(1, 3)].astype(float)
    _, rest, rank, _ = np.linalg.lstsq(design, np.r_[base, early, late], rcond=None)
    assert effect.df == 30 - rank
    assert effect.variance_of_seeds == pytest.approx(2 * rest[0] / (30 - rank) / 6)


def test_variances_more_than_four_times_apart_are_not_pooled():
    rng = np.random.default_rng(5)
    base = rng.normal(size=9)
    calm, wild = base + 0.1 * rng.normal(size=9), base + 5 * rng.normal(size=9)
    effects = arm_effects(arm(base), {"calm": arm(calm), "wild": arm(wild)})
    assert [effect.pooled for effect in effects.values()] == [False, False]
    assert effects["calm"].variance_of_seeds == pytest.approx(np.var(calm - base, ddof=1) / 9)


def test_arms_that_resemble_each_other_do_not_lend_the_baseline_their_calm():
    rng = np.random.default_rng(6)
    base, common = rng.normal(size=(2, 8))
    arms = {f"{index}": common + 0.1 * rng.normal(size=8) for index in range(4)}
    effects = arm_effects(arm(base), {name: arm(values) for name, values in arms.items()})
    for name, values in arms.items():
        assert not effects[name].pooled
        assert effects[name].variance_of_seeds == pytest.approx(np.var(values - base, ddof=1) / 8)


def test_less_is_better_where_the_metric_says_so():
    base, lower = [1.0, 1.1, 0.9, 1.05, 0.95], [0.5, 0.62, 0.41, 0.55, 0.44]
    effects = arm_effects(arm(base), {"a": arm(lower)}, direction="min")
    assert effects["a"].gain == pytest.approx(np.mean(base) - np.mean(lower))
    assert effects["a"].claim == "better"
    assert arm_effects(arm(base), {"a": arm(lower)}, direction="max")["a"].claim == "worse"


def test_equal_differences_have_the_spread_of_the_rounding():
    base = [0.90, 0.91, 0.92, 0.93, 0.94, 0.95]
    shifted = [value + 0.01 for value in base]
    effect = arm_effects(arm(base), {"a": arm(shifted)}, tick=0.01)["a"]
    assert effect.variance_of_seeds == pytest.approx(0.01**2 / 12 / 6)
    assert effect.claim == "better"
    assert arm_effects(arm(base), {"a": arm(base)}, tick=0.01)["a"].claim is None
    without = arm_effects(arm(base), {"a": arm(shifted)})["a"]
    assert (without.interval, without.claim) == (None, None)


def test_one_seed_claims_nothing():
    effect = arm_effects(arm([0.5]), {"a": arm([0.9])}, tick=0.01)["a"]
    assert (effect.interval, effect.claim, effect.seeds) == (None, None, 1)


def test_looks_halve_and_the_family_is_all_arms_ever_confirmed():
    rng = np.random.default_rng(6)
    base, a = rng.normal(size=(2, 6))
    assert arm_effects(arm(base), {"a": arm(a)})["a"].level == 1 - 0.025
    later = arm_effects(arm(base), {"a": arm(a), "b": arm(a + 1)}, look=3, family=("b", "failed"))
    assert later["a"].level == pytest.approx(1 - 0.05 / 8 / 3)
    assert sum(level_of_look(0.05, look) for look in range(1, 60)) == pytest.approx(0.05)


def test_a_claim_once_made_stays_as_it_was():
    rng = np.random.default_rng(7)
    base = rng.normal(size=6)
    first = arm_effects(arm(base), {"a": arm(base + 1 + 0.1 * rng.normal(size=6))})
    assert first["a"].claim == "better"
    kept = [Effect.read(json.loads(json.dumps(dataclasses.asdict(effect)))) for effect in first.values()]
    assert kept == list(first.values())
    again = arm_effects(arm(base), {"a": arm(base - 1 + 0.1 * rng.normal(size=6))}, look=2, kept=kept)
    assert again["a"] == first["a"]


def examples_of(table, counts=None):
    return [ExampleResults(row, counts) for row in table]


def test_the_interval_of_seeds_and_examples_has_the_variance_of_crossed_random_effects():
    rng = np.random.default_rng(8)
    n, size = 7, 50
    base = rng.normal(size=(n, size))
    other = base + 0.3 * rng.normal(size=size) + 0.2 * rng.normal(size=(n, 1)) + rng.normal(size=(n, size))
    effect = arm_effects(
        arm(base.mean(1), examples=examples_of(base)), {"a": arm(other.mean(1), examples=examples_of(other))}
    )["a"]
    table = other - base
    seeds, examples = np.var(table.mean(1), ddof=1) / n, np.var(table.mean(0), ddof=1) / size
    rest = two_way(table) / (n * size)
    squared = seeds + examples - rest
    df = squared**2 / (seeds**2 / (n - 1) + examples**2 / (size - 1) + rest**2 / ((n - 1) * (size - 1)))
    half = student_quantile(1 - 0.025, df) * math.sqrt(squared)
    assert effect.interval == pytest.approx((table.mean() - half, table.mean() + half))
    assert (effect.examples, effect.df) == (size, pytest.approx(df))


def test_seeds_and_examples_add_up_to_the_one_way_variance_without_interaction():
    # With one effect of each example and none of seeds, all that is left is the variance over examples.
    rng = np.random.default_rng(9)
    shift = rng.normal(size=400)
    base = np.tile(rng.normal(size=400), (5, 1))
    other = base + shift
    effect = arm_effects(
        arm(base.mean(1), examples=examples_of(base)), {"a": arm(other.mean(1), examples=examples_of(other))}
    )["a"]
    assert effect.variance_of_examples == pytest.approx(np.var(shift, ddof=1) / 400)
    assert effect.df == pytest.approx(399)
    assert effect.examples_outweigh


def test_examples_never_make_an_interval_shorter():
    rng = np.random.default_rng(10)
    for _ in range(20):
        base, other = (rng.random((2, 5, 30)) < 0.7).astype(float)
        with_them = arm_effects(
            arm(base.mean(1), examples=examples_of(base)), {"a": arm(other.mean(1), examples=examples_of(other))}
        )["a"]
        assert with_them.variance_of_examples >= 0
        without = arm_effects(arm(base.mean(1)), {"a": arm(other.mean(1))})["a"]
        assert with_them.variance_of_seeds == without.variance_of_seeds


def test_an_example_of_more_tokens_weighs_more():
    rng = np.random.default_rng(11)
    counts = rng.integers(1, 9, 40).astype(float)
    base, other = rng.gamma(2, size=(2, 6, 40)) * counts
    ours = {"a": arm(other.sum(1) / counts.sum(), examples=examples_of(other, counts))}
    effect = arm_effects(arm(base.sum(1) / counts.sum(), examples=examples_of(base, counts)), ours)["a"]
    # The jackknife over examples, of the ratio's mean over seeds.
    difference = (other - base).mean(0)
    left_out = (difference.sum() - difference) / (counts.sum() - counts)
    jackknife = 39 / 40 * ((left_out - left_out.mean()) ** 2).sum()
    table = (other - base) / counts.mean()
    ratio = table.mean()
    table = table - ratio * counts / counts.mean()
    rest = two_way(table) / 240
    assert effect.variance_of_examples == pytest.approx(max(0.0, jackknife - rest), rel=0.1, abs=0.02 * jackknife)


def test_results_by_example_of_some_seeds_only_are_not_used():
    rng = np.random.default_rng(12)
    base, other = rng.normal(size=(2, 5, 20))
    some = ArmResults(dict(enumerate(other.mean(1))), {0: ExampleResults(other[0])})
    effect = arm_effects(arm(base.mean(1), examples=examples_of(base)), {"a": some})["a"]
    assert (effect.examples, effect.variance_of_examples) == (None, None)


@pytest.mark.parametrize("counts", [None, np.arange(1.0, 21)], ids=["as many", "other counts"])
def test_results_on_other_examples_are_not_used(counts):
    rng = np.random.default_rng(13)
    base, other = rng.normal(size=(5, 20)), rng.normal(size=(5, 20 if counts is not None else 19))
    ours = {"a": arm(other.mean(1), examples=examples_of(other, counts))}
    effect = arm_effects(arm(base.mean(1), examples=examples_of(base)), ours)["a"]
    assert (effect.examples, effect.interval is None) == (None, False)


def test_the_best_is_first():
    make = lambda name, gain, interval: Effect(name, gain, interval, 6, None, 1.0, None, 5.0, 0.99, True, 1)  # noqa: E731
    effects = [
        make("worse", -1, (-2, -0.5)),
        make("wide", 5, (-1, 11)),
        make("good", 1, (0.5, 2)),
        make("best", 2, (1, 3)),
    ]
    assert [one.arm for one in best_first({effect.arm: effect for effect in effects})] == [
        "best",
        "good",
        "wide",
        "worse",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"alpha": 1.5}, r"alpha must be in \(0, 1\), got 1.5"),
        ({"look": 0}, "look must be at least 1, got 0"),
        ({"tick": 0.0}, "tick must be a positive number or None, got 0.0"),
    ],
)
def test_what_cannot_be_is_refused(changes, words):
    with pytest.raises(ValueError, match=words):
        arm_effects(arm([1.0, 2.0]), {"a": arm([1.0, 2.5])}, **changes)


def test_results_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="a must share at least one seed"):
        arm_effects(arm([1.0]), {"a": arm([1.0], first=5)})
    with pytest.raises(ValueError, match="must be finite, got nan"):
        arm_effects(arm([1.0, 2.0]), {"a": arm([1.0, math.nan])})
