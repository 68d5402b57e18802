"""Targets: what an end takes away and a cut does not, and how pessimism enters."""

import pytest
import torch

from aleator.losses import pessimistic_td_target

R = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
MEAN, STD, LOG_PROB = R * 3, R.abs() + 0.1, torch.tensor([-0.4, 1.3, 0.2], dtype=torch.float64)
GOES_ON = torch.zeros(3, dtype=torch.bool)


def target(term, beta=0.5, **other):
    given = {"gamma": 0.9, "alpha": 0.2, **other}
    return pessimistic_td_target(R, term, MEAN, STD, LOG_PROB, given["gamma"], given["alpha"], beta)


def test_it_is_the_formula():
    expected = R + 0.9 * (MEAN - 0.5 * STD - 0.2 * LOG_PROB)
    torch.testing.assert_close(target(GOES_ON), expected, rtol=1e-10, atol=0)


def test_an_end_takes_the_value_and_the_entropy():
    ended = torch.tensor([True, False, True])
    assert target(ended)[[0, 2]].tolist() == R[[0, 2]].tolist()
    assert target(ended)[1] == target(GOES_ON)[1]


def test_an_end_with_an_infinite_value_is_an_end():
    mean = torch.tensor([float("inf")])
    found = pessimistic_td_target(torch.ones(1), torch.tensor([True]), mean, mean, mean, 0.9, 0.2, 0.5)
    assert found.tolist() == [1.0]


def test_it_falls_in_beta_by_gamma_times_the_deviation():
    slope = (target(GOES_ON, beta=1.5) - target(GOES_ON, beta=0.25)) / 1.25
    torch.testing.assert_close(slope, -0.9 * STD, rtol=1e-10, atol=0)


@pytest.mark.plain
def test_bad_input_is_refused():
    with pytest.raises(ValueError, match=r"term must be boolean, got torch\.float32"):
        target(torch.zeros(3))
    with pytest.raises(ValueError, match=r"term must have the shape of r, \(3,\), got \(2,\)"):
        target(torch.zeros(2, dtype=torch.bool))
