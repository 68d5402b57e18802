"""Complexities of classes that are small enough to know them."""

import itertools
import math

import pytest
import torch

from aleator.stats import empirical_rademacher, massart_bound, sauer_shelah


def test_sauer_shelah_counts_thresholds_and_intervals() -> None:
    """Thresholds on a line (d = 1) label n points in n + 1 ways, intervals (d = 2) in n(n + 1)/2 + 1: with equality."""
    for n in (1, 2, 5, 30):
        assert sauer_shelah(n, 1) == n + 1
        assert sauer_shelah(n, 2) == n * (n + 1) // 2 + 1
    assert sauer_shelah(10, 10) == sauer_shelah(10, 50) == 2**10


def test_rademacher_of_two_opposite_functions_is_the_mean_distance_of_a_walk() -> None:
    """max(Σσ, −Σσ)/n = |Σσ|/n, whose mean is known by counting all 2⁸ signs."""
    values = torch.stack([torch.ones(8), -torch.ones(8)])
    truth = sum(abs(sum(signs)) for signs in itertools.product((-1, 1), repeat=8)) / 2**8 / 8
    estimate = empirical_rademacher(values, 20_000, generator=torch.Generator().manual_seed(0))
    assert estimate == pytest.approx(truth, abs=5 * math.sqrt(2 / 8 / 20_000))  # 5 of the stated standard errors
    assert truth <= massart_bound(values)


def test_rademacher_of_one_function_is_zero_and_massart_says_so() -> None:
    values = torch.ones(1, 10)
    assert massart_bound(values) == 0
    assert abs(empirical_rademacher(values, 10_000, generator=torch.Generator().manual_seed(0))) < 5 * math.sqrt(
        2 / 10 / 10_000
    )


def test_no_chunk_of_the_signs_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from aleator.stats.certify import complexity

    values = torch.randn(5, 16, generator=torch.Generator().manual_seed(1))
    whole = empirical_rademacher(values, 101, generator=torch.Generator().manual_seed(0))
    monkeypatch.setattr(complexity, "_SIGNS_AT_ONCE", 16 * 10)
    assert empirical_rademacher(values, 101, generator=torch.Generator().manual_seed(0)) == pytest.approx(
        whole, rel=1e-12
    )


def test_refuses_what_is_no_class_of_functions() -> None:
    with pytest.raises(ValueError, match=r"values must have at least one function and one example, got shape \(0, 3\)"):
        massart_bound(torch.zeros(0, 3))
    with pytest.raises(ValueError, match="values must be finite"):
        massart_bound(torch.tensor([[1.0, math.inf]]))
    with pytest.raises(ValueError, match="draws must be a whole number of at least 1, got 0"):
        empirical_rademacher(torch.ones(1, 3), 0, generator=torch.Generator())
    with pytest.raises(ValueError, match="d must be a whole number of at least 0, got -1"):
        sauer_shelah(3, -1)
