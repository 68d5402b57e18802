"""Holm's adjustment."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aleator.stats import holm

P_VALUES = st.lists(st.floats(0, 1), min_size=1, max_size=12)


def rejected_step_down(p_values, alpha):
    """Holm's procedure as he states it: from the smallest up, against α/(m − j), until one is not rejected."""
    rejected = set()
    for j, i in enumerate(np.argsort(p_values, kind="stable")):
        if (len(p_values) - j) * p_values[i] > alpha:
            break
        rejected.add(int(i))
    return rejected


@given(P_VALUES, st.floats(0.001, 0.999))
def test_adjusted_values_reject_what_the_step_down_procedure_rejects(p_values, alpha):
    assert {i for i, p in enumerate(holm(p_values)) if p <= alpha} == rejected_step_down(p_values, alpha)


@given(P_VALUES)
def test_adjusted_values_lie_between_the_given_and_bonferronis(p_values):
    for p, adjusted in zip(p_values, holm(p_values), strict=True):
        assert p <= adjusted <= min(1.0, len(p_values) * p)


def test_one_test_is_not_adjusted_and_none_is_not_counted():
    assert holm([0.03]) == [0.03]
    assert holm([None, 0.01, None, 0.02]) == [None, 0.02, None, 0.02]
    assert holm([]) == []


@pytest.mark.parametrize("wrong", [-0.1, 1.5, float("nan")])
def test_what_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match=r"p_values must be in \[0, 1\], got"):
        holm([0.5, wrong])
