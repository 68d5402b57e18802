"""Variance and confidence from two log-probabilities: the formulas, at any size."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.stats import cheat_scores


def one(logp1: float, logp2: float, clip: bool = False, dtype=torch.float64) -> tuple[float, ...]:
    scores = cheat_scores(torch.tensor([logp1], dtype=dtype), torch.tensor([logp2], dtype=dtype), clip)
    return tuple(float(value) for value in scores)


@given(st.floats(0.001, 1), st.floats(0.001, 1))
def test_scores_are_the_formulas(p1, p2):
    variance, confidence, log_variance = one(math.log(p1), math.log(p2))
    assert variance == pytest.approx(p1 * (p2 - p1), abs=1e-15)
    assert confidence == pytest.approx(p1 / p2, rel=1e-12)
    assert variance == pytest.approx(p1**2 * (1 / confidence - 1), abs=1e-12)
    if variance > 1e-12:
        assert log_variance == pytest.approx(math.log(variance), abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_scores_of_long_sequences_are_finite(dtype):
    variance, confidence, log_variance = one(-700.0, -699.0, dtype=dtype)
    assert confidence == pytest.approx(math.exp(-1), rel=1e-6)
    assert 0 <= variance < 1e-300
    assert log_variance == pytest.approx(-1399 + math.log(-math.expm1(-1)), rel=1e-6)
    # One that is almost certain once it was seen.
    variance, confidence, _ = one(-80.0, 0.0, dtype=dtype)
    assert variance == pytest.approx(math.exp(-80), rel=1e-5)
    assert confidence == pytest.approx(math.exp(-80), rel=1e-5)


def test_digits_survive_where_both_are_near_one():
    logp1, logp2 = -1e-6, -1e-12
    variance = one(logp1, logp2)[0]
    exact = math.exp(logp1 + logp2) * -math.expm1(logp1 - logp2)
    assert variance == pytest.approx(exact, rel=1e-14)
    assert variance > 9.9e-7


def test_clipping_raises_the_variance_and_lowers_the_confidence():
    raw = one(math.log(0.5), math.log(0.4))
    assert raw[0] == pytest.approx(-0.05)
    assert raw[1] == pytest.approx(1.25)
    assert math.isnan(raw[2])
    assert one(math.log(0.5), math.log(0.4), clip=True) == (0.0, 1.0, -math.inf)


def test_equal_probabilities_are_no_doubt():
    assert one(-3.0, -3.0) == (0.0, 1.0, -math.inf)


@pytest.mark.parametrize("logp2", [-1.0, -math.inf, math.nan])
def test_impossible_answers_have_neither_variance_nor_confidence(logp2):
    assert one(-math.inf, logp2) == (0.0, 0.0, -math.inf)


def test_an_answer_that_its_own_sight_rules_out_has_a_negative_variance():
    variance, confidence, _ = one(math.log(0.5), -math.inf)
    assert variance == pytest.approx(-0.25)
    assert confidence == math.inf


def test_what_is_not_a_number_stays_so():
    assert all(math.isnan(value) for value in one(math.nan, -1.0))


def test_numbers_are_taken_in_float64():
    tensors = cheat_scores(*(torch.tensor(value, dtype=torch.float64) for value in (-700.0, -699.0)))
    assert cheat_scores(-700.0, -699.0) == tensors


def test_half_precision_is_computed_in_float32():
    half = torch.tensor([-1.0], dtype=torch.bfloat16)
    assert cheat_scores(half, half / 2).variance.dtype == torch.float32


@pytest.mark.plain
def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"logp1 and logp2 must have one shape, got shapes \(2,\) and \(3,\)"):
        cheat_scores(torch.zeros(2), torch.zeros(3))
