"""Bounds on mean losses and differences: closed forms, coverage, and one line where the values cannot be."""

import math

import numpy as np
import pytest
import torch
from scipy import stats

from aleator.stats import accuracy_bound, difference_bound, loss_bound, mcnemar


@pytest.mark.parametrize("method", ["hoeffding", "empirical_bernstein"])
@pytest.mark.parametrize("side", ["lower", "upper", "both"])
def test_of_zeros_and_ones_it_is_the_bound_on_accuracy(method: str, side: str) -> None:
    values = [1.0] * 347 + [0.0] * 13
    ours = loss_bound(values, 0.05, method, side)  # type: ignore[arg-type]
    assert ours.bound == pytest.approx(accuracy_bound(347, 360, 0.05, method, side).bound, rel=1e-12)  # type: ignore[arg-type]


def test_empirical_bernstein_has_maurer_and_pontils_constants() -> None:
    values = np.array([0.1, 0.2, 0.15, 0.3, 0.25])
    variance, log = values.var(ddof=1), math.log(2 / 0.05)
    expected = values.mean() + math.sqrt(2 * variance * log / 5) + 7 * log / (3 * 4)
    assert loss_bound(values, 0.05).bound == min(1.0, expected)
    many = np.tile(values, 100)
    expected = many.mean() + math.sqrt(2 * many.var(ddof=1) * log / 500) + 7 * log / (3 * 499)
    assert loss_bound(many, 0.05).bound == pytest.approx(expected, rel=1e-12)


def test_upper_bound_covers_the_mean_of_a_beta() -> None:
    """2 000 samples of 200 losses; a guaranteed bound is conservative, so 95 % is exceeded."""
    rng = np.random.default_rng(0)
    samples = rng.beta(1, 20, (2000, 200))
    widths = {}
    for method in ("hoeffding", "empirical_bernstein"):
        bounds = np.array([loss_bound(sample, 0.05, method).bound for sample in samples])  # type: ignore[arg-type]
        assert (bounds >= 1 / 21).mean() >= 0.95
        widths[method] = float((bounds - samples.mean(1)).mean())
    assert widths["empirical_bernstein"] < widths["hoeffding"]  # the variance is small


def test_values_may_be_a_tensor_a_list_or_an_array_and_are_summed_in_double() -> None:
    values = torch.rand(1000, generator=torch.Generator().manual_seed(0), dtype=torch.float32)
    as_tensor = loss_bound(values.clone().requires_grad_())
    assert as_tensor == loss_bound(values.tolist()) == loss_bound(values.numpy())
    half = loss_bound(values.bfloat16())
    assert half.estimate == pytest.approx(float(values.bfloat16().double().mean()), rel=1e-14)


def test_difference_bound_is_bernstein_with_the_range_of_two() -> None:
    a = np.array([1.0] * 90 + [0.0] * 10)
    b = np.array([1.0] * 85 + [0.0] * 15)
    d, log = a - b, math.log(2 / 0.05)
    margin = math.sqrt(2 * d.var(ddof=1) * log / 100) + 2 * 7 * log / (3 * 99)
    assert difference_bound(a, b, 0.05, side="lower").bound == pytest.approx(d.mean() - margin, rel=1e-12)
    low, high = difference_bound(a, b, 0.1).bound  # type: ignore[misc]
    assert (low, high) == pytest.approx((d.mean() - margin, d.mean() + margin), rel=1e-12)
    hoeffding = difference_bound(a, b, 0.05, "hoeffding", "upper")
    assert hoeffding.bound == pytest.approx(d.mean() + 2 * math.sqrt(math.log(20) / 200), rel=1e-12)


def test_pairing_is_tighter_than_two_bounds() -> None:
    rng = np.random.default_rng(1)
    a = (rng.random(2000) < 0.8).astype(float)
    b = np.where(rng.random(2000) < 0.02, 1 - a, a)
    low, high = difference_bound(a, b).bound  # type: ignore[misc]
    apart = [loss_bound(x, 0.025, side="both").bound for x in (a, b)]
    assert high - low < 0.5 * sum(end[1] - end[0] for end in apart)  # type: ignore[index]


@pytest.mark.parametrize(("b", "c"), [(0, 1), (3, 3), (10, 2), (0, 12), (40, 61)])
def test_mcnemar_is_the_exact_binomial_test(b: int, c: int) -> None:
    assert mcnemar(b, c) == pytest.approx(stats.binomtest(b, b + c, 0.5).pvalue, rel=1e-12)
    assert mcnemar(b, c) == mcnemar(c, b)


def test_mcnemar_without_discordant_pairs_is_one() -> None:
    assert mcnemar(0, 0) == 1.0


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: loss_bound([0.5, 1.5]), r"values must be in \[0, 1\], got 1.5"),
        (lambda: loss_bound([0.5, float("nan")]), r"values must be in \[0, 1\], got nan"),
        (lambda: loss_bound([0.5]), "empirical_bernstein needs at least 2 examples, got 1"),
        (lambda: loss_bound([]), r"values must be one number for each example, at least one, got shape \(0,\)"),
        (lambda: loss_bound([0.1, 0.2], method="kl"), "method must be one of hoeffding, empirical_bernstein, got 'kl'"),
        (lambda: loss_bound([0.1, 0.2], used_for_choosing=True), "candidates must be the number of models .*"),
        (lambda: difference_bound([1, 0], [1, 0, 1]), "a and b must have one value per example each, got 2 and 3"),
        (lambda: mcnemar(-1, 2), "b must be a whole number of at least 0, got -1"),
    ],
)
def test_refuses_in_one_line(call, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
