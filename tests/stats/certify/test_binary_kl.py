"""The inversion of kl is its inverse, at the ends of the interval too."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import rel_entr

from aleator.stats.certify.binary_kl import binary_kl, kl_lower, kl_upper


@given(p=st.floats(0, 1), q=st.floats(1e-6, 1 - 1e-6))
def test_is_scipys_relative_entropy(p: float, q: float) -> None:
    assert binary_kl(p, q) == pytest.approx(float(rel_entr(p, q) + rel_entr(1 - p, 1 - q)), rel=1e-7, abs=1e-15)


@given(p=st.floats(1e-9, 1 - 1e-9), budget=st.floats(1e-9, 5))
def test_both_ends_spend_the_budget(p: float, budget: float) -> None:
    low, high = kl_lower(p, budget), kl_upper(p, budget)
    assert 0 <= low < p < high <= 1
    if low > 0:
        assert binary_kl(p, low) == pytest.approx(budget, rel=1e-5)
    if high < 1 - 1e-12:  # nearer to 1 floats are too coarse for the budget
        assert binary_kl(p, high) == pytest.approx(budget, rel=1e-3)


@pytest.mark.parametrize("budget", [0.0, 1e-12, 0.3, 40.0])
def test_certain_outcomes_have_closed_forms(budget: float) -> None:
    assert kl_upper(0.0, budget) == pytest.approx(-math.expm1(-budget), rel=1e-14)
    assert kl_lower(1.0, budget) == pytest.approx(math.exp(-budget), rel=1e-14)
    assert (kl_lower(0.0, budget), kl_upper(1.0, budget)) == (0.0, 1.0)
