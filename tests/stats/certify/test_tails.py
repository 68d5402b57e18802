"""Tails: each above the truth, Bennett below Bernstein, and right where numbers cancel."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from aleator.stats import bennett_tail, bernstein_tail, mcdiarmid_tail


@pytest.mark.parametrize("p", [0.02, 0.3])
@pytest.mark.parametrize("t", [0.01, 0.05, 0.2])
def test_every_tail_is_above_the_binomials(p: float, t: float) -> None:
    n = 200
    truth = float(stats.binom.sf(math.ceil(n * (p + t) - 1e-9) - 1, n, p))
    bennett, bernstein = (tail(t, n, p * (1 - p), 1 - p) for tail in (bennett_tail, bernstein_tail))
    assert truth <= bennett <= bernstein <= 1
    assert truth <= mcdiarmid_tail(t, [1 / n] * n)


def test_mcdiarmid_of_a_mean_is_hoeffding() -> None:
    assert mcdiarmid_tail(0.1, [1 / 50] * 50) == pytest.approx(math.exp(-2 * 50 * 0.1**2), rel=1e-12)


@given(t=st.floats(1e-12, 1), n=st.integers(1, 10**9), variance=st.floats(0, 1), b=st.floats(1e-3, 10))
def test_bennett_is_never_above_bernstein(t: float, n: int, variance: float, b: float) -> None:
    assert bennett_tail(t, n, variance, b) <= bernstein_tail(t, n, variance, b) * (1 + 1e-9)


def test_bennett_keeps_its_digits_where_u_is_small() -> None:
    """At u = 1e-9 and n = 10¹⁸ the exponent is u²/2·n = 1/2; the formula as it stands gives ln(1+u)-noise."""
    assert bennett_tail(1e-9, 10**18, 1.0, 1.0) == pytest.approx(math.exp(-0.5), rel=1e-6)
    below, above = (bennett_tail(u, 10**8, 1.0, 1.0) for u in (0.99999999e-4, 1.00000001e-4))
    assert below == pytest.approx(above, rel=1e-6)  # the series and the formula meet


def test_certainty_at_the_ends() -> None:
    assert bernstein_tail(0.0, 10, 0.1, 1.0) == bennett_tail(0.0, 10, 0.1, 1.0) == mcdiarmid_tail(0.0, [1.0]) == 1.0
    assert bennett_tail(0.1, 10, 0.0, 1.0) == mcdiarmid_tail(0.1, [0.0]) == 0.0


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: bernstein_tail(-0.1, 10, 0.1, 1.0), "t must not be negative and must be finite, got -0.1"),
        (lambda: bennett_tail(0.1, 10, float("nan"), 1.0), "variance must not be negative and must be finite, got nan"),
        (lambda: bennett_tail(0.1, 10, 0.1, 0.0), "b must be positive and finite, got 0.0"),
        (lambda: bernstein_tail(0.1, 0, 0.1, 1.0), "n must be a whole number of at least 1, got 0"),
        (lambda: mcdiarmid_tail(0.1, [1.0, -1.0]), "sensitivities must not be negative and must be finite, got -1.0"),
    ],
)
def test_refuses_in_one_line(call, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
