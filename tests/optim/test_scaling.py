"""One rule for learning rates of other batches, under two names."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aleator.optim import scale_betas, scale_for_batch, scale_lr


@given(st.floats(1e-6, 10), st.integers(1, 10**6), st.integers(1, 10**6))
def test_both_names_are_one_rule(lr, b0, b):
    assert scale_lr(lr, b0, b) == scale_for_batch(lr, b0, b, "linear") == lr * (b / b0)
    assert scale_lr(lr, b0, b, "adam") == scale_for_batch(lr, b0, b, "sqrt") == lr * math.sqrt(b / b0)


def test_ratios_are_those_of_independent_examples():
    # N = 100: b(20) = 25, b(50) = 100
    assert scale_lr(0.1, 20, 50, n=100) == pytest.approx(0.4)
    assert scale_lr(0.1, 20, 50, "adam", n=100) == pytest.approx(0.2)
    assert scale_lr(0.1, 20, 20, n=100) == 0.1


def test_the_cap_is_the_largest_rate_and_needed_for_all_of_the_data():
    assert scale_lr(0.1, 10, 40, cap=0.3) == 0.3
    assert scale_lr(0.1, 10, 20, cap=0.3) == 0.2
    assert scale_lr(0.1, 10, 100, n=100, cap=0.3) == 0.3
    with pytest.raises(ValueError, match=r"cap must be given with a batch of all 100 examples, .* got None"):
        scale_lr(0.1, 10, 100, n=100)


def test_betas_and_eps_move_with_the_batch():
    betas, eps = scale_betas((0.9, 0.999), 1e-8, 64, 256)
    assert betas == (pytest.approx(0.6), pytest.approx(0.996))
    assert eps == pytest.approx(5e-9)
    assert scale_betas((0.9,), 1e-8, 20, 50, n=100)[0] == (pytest.approx(0.6),)


@pytest.mark.plain
def test_what_cannot_be_is_refused():
    with pytest.raises(ValueError, match=r"b must be at most 10 times b0 with a beta of 0.9, got 16"):
        scale_betas((0.9, 0.999), 1e-8, 64, 1024)
    with pytest.raises(ValueError, match=r"b0 must be below n, 100: .* got 100"):
        scale_lr(0.1, 100, 50, n=100)
    with pytest.raises(ValueError, match=r"b must be at most n, 100, got 101"):
        scale_lr(0.1, 50, 101, n=100)
    with pytest.raises(ValueError, match=r"b0 must be positive and finite, got 0"):
        scale_lr(0.1, 0, 50)
    with pytest.raises(ValueError, match=r"rule must be 'sgd' or 'adam', got 'lamb'"):
        scale_lr(0.1, 1, 2, "lamb")
    with pytest.raises(ValueError, match=r"lr must not be negative, got nan"):
        scale_lr(math.nan, 1, 2)
    with pytest.raises(ValueError, match=r"cap must be positive, got 0"):
        scale_lr(0.1, 1, 2, cap=0)
