"""What an hour carries: the worked examples of issue 28, and the rules."""

from __future__ import annotations

import math

import pytest

from aleator.stats.advice.hour import (
    CHOOSING,
    CONFIRMING,
    RESERVE,
    choosing,
    confirming,
    minutes_for_one,
    rungs_of,
    settled,
    survivors,
)

HOUR = 3600.0


def test_the_shares_make_a_whole():
    assert pytest.approx(1) == CHOOSING + CONFIRMING + RESERVE


def test_an_hour_of_digits_carries_twenty_seeds_of_four_arms():
    found = confirming(CONFIRMING * HOUR, 9, 3.0, pair=True)
    assert (found.arms, found.seeds, found.pair) == (4, 20, True)


def test_an_hour_of_a_thirty_second_network_carries_eleven_seeds_of_four_arms_and_seven_trials_of_each_arm():
    found = confirming(CONFIRMING * HOUR, 5, 30.0, pair=True)
    assert (found.arms, found.seeds, found.seconds) == (4, 11, pytest.approx(CONFIRMING * HOUR))
    assert choosing(CHOOSING * HOUR, 6, lambda share: 30.0 * share).trials == 7


def test_an_hour_of_ten_minute_runs_confirms_nothing_and_says_what_would_be_enough():
    assert confirming(CONFIRMING * HOUR, 4, 600.0).seeds == 0
    assert 1 < CONFIRMING * HOUR / (2 * 600.0) < 2  # seeds that one arm would have
    assert minutes_for_one(600.0) / 60 == pytest.approx(3.64, abs=0.01)


@pytest.mark.parametrize(
    ("seconds", "arms", "seeds"), [(30, 4, 6), (29, 3, 7), (18, 2, 6), (12, 1, 6), (10, 1, 5), (9, 0, 0)]
)
def test_as_many_arms_as_leave_six_seeds_and_one_alone_may_have_five(seconds, arms, seeds):
    found = confirming(seconds, 4, 1.0)
    assert (found.arms, found.seeds) == (arms, seeds)


def test_a_pair_has_a_place_only_beside_two_arms():
    assert confirming(12.0, 4, 1.0, pair=True) == confirming(12.0, 1, 1.0)
    assert confirming(24.0, 2, 1.0, pair=True).seeds == 6


def test_workers_that_wait_for_the_last_run_take_their_time():
    assert confirming(159.0, 1, 10.0, workers=8).seeds == 0  # ten runs are two rounds of eight
    assert confirming(160.0, 1, 10.0, workers=8).seeds == 8
    assert choosing(159.0, 5, lambda share: 10.0 * share, workers=8).arms == 4
    enough = 60 * minutes_for_one(10.0, workers=8)
    assert confirming(CONFIRMING * enough * 8, 1, 10.0, workers=8).seeds >= 6


def test_rungs_are_complete_runs_of_a_third_of_the_next_ones_length():
    rungs = rungs_of(9, 0.1)
    assert [(rung.trials, pytest.approx(rung.share)) for rung in rungs] == [(9, 1 / 9), (3, 1 / 3), (1, 1.0)]
    assert [rung.share for rung in rungs_of(9, 1.0)] == [1.0]


def test_choosing_leaves_arms_out_before_it_gives_one_trial():
    found = choosing(100.0, 8, lambda share: 10.0 * share)
    assert (found.arms, found.trials) == (5, 2)
    assert choosing(10.0, 8, lambda share: 10.0 * share).arms == 0


def test_the_best_trials_survive_and_what_is_no_number_does_not():
    values = {0: 0.5, 1: float("nan"), 2: 0.9, 3: 0.9}
    assert survivors(values, 3) == [2, 3, 0]
    assert survivors(values, 4, "min") == [0, 2, 3, 1]


def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match="run must be a positive number of seconds, got 0"):
        confirming(10.0, 1, 0.0)
    with pytest.raises(ValueError, match="trials must be at least 1, got 0"):
        rungs_of(0, 0.5)
    with pytest.raises(ValueError, match=r"least_share must be in \(0, 1\], got 2"):
        rungs_of(3, 2.0)


def test_luck_with_a_draw_is_settled_by_all_arms():
    """The first arm's values for draw 0 are higher by chance; the others say that draw 2 is better."""
    values = {
        "baseline": {0: 0.940, 2: 0.935},
        "one": {0: 0.90, 2: 0.94},
        "two": {0: 0.91, 2: 0.93},
        "three": {0: 0.92, 2: 0.94},
    }
    assert settled(values) == dict.fromkeys(values, 2)
    assert settled({arm: {n: -v for n, v in of_arm.items()} for arm, of_arm in values.items()}, "min") == dict.fromkeys(
        values, 2
    )


def test_an_arm_that_wants_another_draw_has_its_own():
    values = {
        "baseline": {0: 0.90, 2: 0.94},
        "one": {0: 0.91, 2: 0.93},
        "two": {0: 0.91, 2: 0.95},
        "other": {0: 0.95, 2: 0.85},
    }
    assert settled(values) == {"baseline": 2, "one": 2, "two": 2, "other": 0}


def test_values_in_steps_of_one_example_do_not_pretend_to_be_certain():
    """Three arms differ by exactly one example, the other way than the first arm does."""
    values = {"a": {0: 0.93, 1: 0.92}, **{name: {0: 0.92, 1: 0.93} for name in "bcd"}}
    assert settled(values)["a"] == 0
    assert settled(values, tick=0.01)["a"] == 1


def test_what_one_arm_alone_tried_and_what_is_no_number_decides_nothing():
    assert settled({"a": {0: 0.9, 1: 0.91}, "b": {2: 0.8}, "c": {0: math.nan}}) == {"a": 1, "b": 2}
    assert settled({"a": {3: 0.9, 1: 0.9}}) == {"a": 1}


@pytest.mark.parametrize("like", [[], ["one"]], ids=["alone", "beside another"])
def test_one_unlike_arm_takes_no_settings_from_the_baseline(like):
    """Else a method that fails with the baseline's best draw would be compared with a baseline that is tuned badly."""
    alike = {key: {0: 0.94, 2: 0.93} for key in ["baseline", *like]}
    assert settled({**alike, "unlike": {0: 0.1, 2: 0.95}})["baseline"] == 0


def test_one_unlike_arm_does_not_make_all_differences_look_like_chance():
    """What the baseline clearly prefers is not given up for the little that two others prefer."""
    rest = {"one": {0: 0.930, 2: 0.932}, "two": {0: 0.930, 2: 0.931}}
    for others in (rest, {"one": rest["one"]}):
        assert settled({"baseline": {0: 0.98, 2: 0.93}, **others, "unlike": {0: 0.1, 2: 0.95}})["baseline"] == 0


def test_settings_of_an_arms_own_are_no_draws():
    """Trials 0 and 2 of an arm have its first settings, trial 1 its second, which are better."""
    others = {key: {0: 0.95, 1: 0.9, 2: 0.94} for key in ["baseline", "one", "two"]}
    values, of_arm = {**others, "many": {0: 0.90, 1: 0.92, 2: 0.91}}, {0: "a", 1: "b", 2: "a"}
    assert settled(values)["many"] == 0
    assert settled(values, own_settings={"many": of_arm})["many"] == 1
    voters = {key: {0: 0.9, 1: 0.99} for key in ["many", "more", "most"]}
    values = {"baseline": {0: 0.95, 1: 0.94}, **voters}
    assert settled(values)["baseline"] == 1
    assert settled(values, own_settings=dict.fromkeys(voters, of_arm))["baseline"] == 0
