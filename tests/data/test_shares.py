import math
from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from aleator.data.shares import floor_share, meant


def test_every_share_of_up_to_three_hundred_steps_is_exact():
    assert all(floor_share(k / total, total) == k for total in range(1, 301) for k in range(total + 1))


@given(st.integers(1, 10**12), st.data())
def test_a_share_of_any_number_of_steps_is_exact(total, data):
    k = data.draw(st.integers(0, total))
    assert floor_share(k / total, total) == k


@given(st.integers(0, 1000), st.integers(1, 1000), st.integers(1, 10**6))
def test_a_simple_fraction_of_a_total_is_rounded_down_as_the_fraction(k, n, total):
    k = min(k, n)
    assert floor_share(k / n, total) == math.floor(Fraction(k, n) * total)


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_decimal_is_rounded_down_as_it_is_written(digits, total):
    assert floor_share(digits / 10**6, total) == digits * total // 10**6


def test_shares_are_the_fractions_that_were_meant():
    assert (meant(1 / 3), meant(0.29), meant(0.5)) == (Fraction(1, 3), Fraction(29, 100), Fraction(1, 2))
    assert meant(0.1234567890123) == Fraction(0.1234567890123)
