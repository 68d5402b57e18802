"""Equal time: what is timed decides how many steps an arm has, and what was not told apart decides nothing."""

import math

import pytest

from aleator.experiment.advice.measure import Cost, EqualTime, cost_of, equal_time


def timed(*seconds_of_steps, building=1.0, starting=0.0, evaluation=0.1):
    """One measurement for each number of seconds of a step."""
    return [
        {"building": building, "starting": starting, "step": step, "evaluation": evaluation, "memory": 1}
        for step in seconds_of_steps
    ]


def test_an_arm_that_takes_twice_the_time_has_half_of_the_steps():
    measured = {"baseline": timed(0.1, 0.1001), "slow": timed(0.2, 0.2002)}
    equal = equal_time(measured, "baseline", 100)
    assert equal.steps_of(cost_of(measured["slow"]), 2) == 50
    assert equal.seconds == pytest.approx(11.005)


def test_what_an_evaluation_takes_is_no_handicap():
    measured = {"baseline": timed(0.1, 0.1001), "arm": timed(0.1, 0.1001, evaluation=5.0)}
    assert equal_time(measured, "baseline", 100).steps_of(cost_of(measured["arm"]), 2) == 100


def test_what_is_done_before_the_first_step_takes_steps():
    measured = {"baseline": timed(0.1, 0.1001), "compiled": timed(0.1, 0.1001, starting=5.0)}
    assert equal_time(measured, "baseline", 100).steps_of(cost_of(measured["compiled"]), 2) == 50


def test_arms_that_measurements_do_not_tell_apart_have_equal_steps():
    noisy = {"baseline": timed(0.1, 0.12), "one": timed(0.13, 0.11), "two": timed(0.1, 0.13), "far": timed(0.5, 0.4)}
    equal = equal_time(noisy, "baseline", 100)
    assert 0.1 < equal.tolerance < 1
    assert [equal.steps_of(cost_of(noisy[name]), 2) for name in ("one", "two")] == [100, 100]
    assert equal.steps_of(cost_of(noisy["far"]), 2) < 40


def test_the_tolerance_is_that_of_two_means_with_the_pooled_spread():
    measured = {"a": timed(0.1, 0.11, building=1e-9), "b": timed(0.2, 0.24, building=1e-9), "once": timed(0.3)}
    logs = math.log(1.1), math.log(1.2)
    spread = math.sqrt(sum(one**2 / 2 for one in logs) / 2)
    equal = equal_time(measured, "a", 1000)
    assert equal.tolerance == pytest.approx(4.302653 * spread, rel=1e-4)  # t with 2 degrees of freedom
    assert equal_time({"a": timed(0.1)}, "a", 10) == EqualTime(10, 2.0, pytest.approx(0.1 * math.sqrt(2)), 1)
    assert Cost(1.0, 0.0, 0.1, 0.0).steps(0.5) == 0


def test_what_was_measured_once_is_told_apart_less_sharply():
    """The variance of a difference is that of one measurement times 1/2 + 1/1, in place of 1/2 + 1/2."""
    equal = EqualTime(1000, 100.0, 0.2, 2)
    between = Cost(0.0, 0.0, 0.1 * math.exp(0.2 * 1.2), 0.0)  # of √1.5 = 1.22
    assert equal.steps_of(between, 1) == 1000
    assert equal.steps_of(between, 2) < 1000


def test_one_pair_of_measurements_does_not_make_everything_equal():
    """A slow task has one round, but for its baseline."""
    once = {"baseline": timed(0.1, 0.12), "slow": timed(0.3), "near": timed(0.115)}
    equal = equal_time(once, "baseline", 1000)
    steps = {name: equal.steps_of(cost_of(measured), len(measured)) for name, measured in once.items()}
    assert steps["near"] == steps["baseline"] == 1000
    assert 300 < steps["slow"] < 400
