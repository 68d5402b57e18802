"""The codes of the scalars: every code, the ends of the range, zeros, and what must never travel."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.gradients import log8_decode, log8_encode, log8_table, log9_decode, log9_encode

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
SMALLEST, LARGEST = math.exp(-63 / 8), math.exp(63 / 8)


def test_the_table_is_the_formula_in_all_256_codes():
    for code, number in enumerate(log8_table()):
        wanted = 0.0 if code in (0, 128) else (-1 if code >= 128 else 1) * math.exp(((code & 127) - 64) / 8)
        assert number == pytest.approx(wanted, rel=1e-15)
        assert log8_decode(code) == number
    assert math.copysign(1, log8_decode(0)) == math.copysign(1, log8_decode(128)) == 1


def test_every_code_but_the_second_zero_comes_back():
    back = log8_encode(log8_decode(torch.arange(256)))
    assert back.tolist() == [0 if code == 128 else code for code in range(256)]
    assert back.dtype == torch.uint8


def test_relative_errors_are_the_stated_ones_over_the_range():
    g = torch.logspace(math.log10(SMALLEST), math.log10(LARGEST), 200_001, dtype=torch.float64)
    error8 = (log8_decode(log8_encode(g)) / g - 1).abs().max()
    error9 = (log9_decode(*log9_encode(g)) / g - 1).abs().max()
    assert 0.064 < float(error8) <= math.expm1(1 / 16) + 1e-12
    assert 0.0315 < float(error9) <= math.expm1(1 / 32) + 1e-12


@given(NUMBERS, NUMBERS, st.sampled_from(["zero", "clamp"]))
def test_decoding_keeps_the_order(a, b, small):
    low, high = sorted((a, b))
    assert log8_decode(log8_encode(low, small)) <= log8_decode(log8_encode(high, small))


@given(NUMBERS)
def test_signs_are_symmetric_and_a_number_is_coded_as_in_a_tensor(g):
    assert log8_decode(log8_encode(-g)) == -log8_decode(log8_encode(g))
    assert int(log8_encode(torch.tensor([g], dtype=torch.float64))[0]) == log8_encode(g)


@pytest.mark.parametrize("encoded", [0.0, -0.0, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("small", ["zero", "clamp"])
def test_zeros_and_what_is_not_finite_are_code_0(encoded, small):
    assert log8_encode(encoded, small) == 0
    assert log9_decode(*log9_encode(encoded)) == 0


def test_small_numbers_become_zero_below_half_the_smallest_or_the_smallest():
    half = SMALLEST / 2
    assert [log8_encode(s * half * (1 - 1e-9)) for s in (1, -1)] == [0, 0]
    assert [log8_encode(s * half * (1 + 1e-9)) for s in (1, -1)] == [1, 129]
    assert [log8_encode(g, "clamp") for g in (1e-300, -5e-324)] == [1, 129]
    assert [log8_encode(g) for g in (1e300, -1e300)] == [127, 255]


def test_ties_go_to_the_even_power():
    # 8 ln g is a half plus an integer to the last bit for one neighbour of e^((n + 1/2)/8), where it is at all.
    ties = 0
    for n in range(-40, 40):
        middle = math.exp((n + 0.5) / 8)
        for g in (math.nextafter(middle, 0), middle, math.nextafter(middle, math.inf)):
            if 8 * float(torch.tensor(g, dtype=torch.float64).log()) == n + 0.5:
                ties += 1
                assert log8_encode(g) == 64 + (n if n % 2 == 0 else n + 1)
    assert ties > 10


def test_log9_is_what_the_papers_program_computes():
    for g in (1.0, -2.5, 1e-9, 1e9, 0.03, math.exp(0.5 / 16)):
        sign, power = log9_encode(g)
        assert (sign, power) == (1 if g > 0 else -1, max(-127, min(127, round(16 * math.log(abs(g))))))
        assert log9_decode(sign, power) == pytest.approx(sign * math.exp(power / 16), rel=1e-15)
    states = {(sign, power) for sign in (-1, 1) for power in range(-127, 128)}
    assert len({log9_decode(*state) for state in states}) == 510


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log8_encode(1.0, "none"), "small must be zero or clamp, got 'none'"),
        (lambda: log8_decode(256), r"code must be in \[0, 255\], got 256"),
        (lambda: log8_decode(torch.tensor([-1])), r"code must be integers in \[0, 255\]"),
        (lambda: log9_decode(2, 0), "sign must be -1, 0 or 1"),
    ],
)
def test_what_is_no_code_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
