"""Distances between samples: closed forms, SciPy's numbers, unbiasedness, and gradients that are right."""

import itertools
import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from aleator.stats import energy_distance, mmd2, sliced_wasserstein, wasserstein_1d


def draws(n: int, d: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def kernel(a: Tensor, b: Tensor, lengthscale: float) -> float:
    return math.exp(-float((a - b).square().sum()) / (2 * lengthscale**2))


def test_mmd_is_the_double_sum() -> None:
    x, y, ell = draws(5, 3, 0), draws(4, 3, 1), 1.3
    xx = [kernel(a, b, ell) for a, b in itertools.product(x, x)]
    yy = [kernel(a, b, ell) for a, b in itertools.product(y, y)]
    xy = [kernel(a, b, ell) for a, b in itertools.product(x, y)]
    v = sum(xx) / 25 + sum(yy) / 16 - 2 * sum(xy) / 20
    u = (sum(xx) - 5) / 20 + (sum(yy) - 4) / 12 - 2 * sum(xy) / 20
    assert float(mmd2(x, y, ell, unbiased=False)) == pytest.approx(v, rel=1e-12)
    assert float(mmd2(x, y, ell, unbiased=True)) == pytest.approx(u, rel=1e-12)


def test_unbiased_mmd_has_the_mean_that_gaussians_give() -> None:
    """E k(X,Y) = (ℓ²/(ℓ²+2))^{d/2} exp(−‖μ‖²/(2(ℓ²+2))) for N(0, I) and N(μ, I); 5 standard errors over 400 samples."""
    d, ell, mu = 2, 1.0, 0.7
    across = (ell**2 / (ell**2 + 2)) ** (d / 2)
    truth = 2 * across * (1 - math.exp(-(d * mu**2) / (2 * (ell**2 + 2))))
    found = np.array([float(mmd2(draws(12, d, 2 * s), draws(9, d, 2 * s + 1, mu), ell)) for s in range(400)])
    biased = [float(mmd2(draws(12, d, 2 * s), draws(9, d, 2 * s + 1, mu), ell, unbiased=False)) for s in range(400)]
    error = found.std() / math.sqrt(400)
    assert abs(found.mean() - truth) < 5 * error
    assert abs(np.mean(biased) - truth) > 10 * error


def test_distances_between_equal_samples_are_zero_and_otherwise_positive() -> None:
    x, y = draws(50, 2, 0), draws(60, 2, 1, 0.5)
    assert float(mmd2(x, x, 1.0, unbiased=False)) == pytest.approx(0, abs=1e-15)
    assert float(energy_distance(x, x)) == pytest.approx(0, abs=1e-13)
    assert float(mmd2(x, y, 1.0, unbiased=False)) > 0.01
    assert float(energy_distance(x, y)) > 0.05


def test_energy_distance_is_the_square_of_scipys() -> None:
    x, y = draws(40, 1, 0), draws(25, 1, 1, 0.3)
    theirs = stats.energy_distance(x[:, 0].numpy(), y[:, 0].numpy())
    assert float(energy_distance(x, y)) == pytest.approx(theirs**2, rel=1e-10)
    assert float(energy_distance(x[:, 0], y[:, 0])) == pytest.approx(theirs**2, rel=1e-10)


@pytest.mark.parametrize(("n", "m"), [(30, 30), (30, 18), (7, 100), (1, 5)])
def test_wasserstein_of_numbers_is_scipys(n: int, m: int) -> None:
    x, y = draws(n, 1, 0)[:, 0], draws(m, 1, 1, 0.4)[:, 0]
    assert float(wasserstein_1d(x, y)) == pytest.approx(stats.wasserstein_distance(x.numpy(), y.numpy()), rel=1e-12)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.5])
def test_unequal_sizes_are_equal_ones_repeated(p: float) -> None:
    x, y = draws(6, 1, 0)[:, 0], draws(4, 1, 1)[:, 0]
    repeated = wasserstein_1d(x.repeat(2), y.repeat(3), p)
    assert float(wasserstein_1d(x, y, p)) == pytest.approx(float(repeated), rel=1e-12)
    assert float(wasserstein_1d(x, x + 3, p)) == pytest.approx(3, rel=1e-12)


def test_sliced_distance_of_a_shift_is_known() -> None:
    """For Y = X + a the sliced W₂² is E⟨θ, a⟩² = ‖a‖²/d; 5 standard errors over 2 000 directions."""
    x, shift = draws(20, 3, 0), torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    found = float(sliced_wasserstein(x, x + shift, directions=2000, generator=torch.Generator().manual_seed(0))) ** 2
    truth = float(shift.square().sum()) / 3
    assert found == pytest.approx(truth, abs=5 * truth * math.sqrt(4 / 5 / 2000))  # Var⟨θ,a⟩² = 4/45 ‖a‖⁴ for d = 3


def test_in_one_dimension_slicing_changes_nothing() -> None:
    x, y = draws(20, 1, 0), draws(15, 1, 1)
    sliced = sliced_wasserstein(x, y, p=2.0, directions=3, generator=torch.Generator().manual_seed(0))
    assert float(sliced) == pytest.approx(float(wasserstein_1d(x[:, 0], y[:, 0], 2.0)), rel=1e-12)


def test_close_points_far_from_the_origin_keep_their_distance() -> None:
    """In float32 and by matrix products this energy distance would be rounding."""
    x = draws(30, 2, 0).float() * 1e-2 + 1000
    y = x + 1e-2
    exact = energy_distance(x.double(), y.double())
    assert float(energy_distance(x, y)) == float(exact) > 0
    torch.testing.assert_close(exact, energy_distance(x.double() - 1000, y.double() - 1000), rtol=1e-9, atol=0)


def test_blocks_of_rows_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from aleator.stats import distances

    x, y = draws(50, 2, 0), draws(40, 2, 1)
    whole = mmd2(x, y, 1.0), energy_distance(x, y)
    monkeypatch.setattr(distances, "_PAIRS_AT_ONCE", 100)
    for a, b in zip((mmd2(x, y, 1.0), energy_distance(x, y)), whole, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=0)


def test_gradients_are_those_of_finite_differences() -> None:
    x, y = draws(4, 2, 0).requires_grad_(), draws(5, 2, 1).requires_grad_()
    for distance in (
        lambda a, b: mmd2(a, b, 1.0),
        lambda a, b: mmd2(a, b, 1.0, unbiased=False),
        energy_distance,
        lambda a, b: sliced_wasserstein(a, b, directions=4, generator=torch.Generator().manual_seed(0)),
    ):
        assert torch.autograd.gradcheck(distance, (x, y))


def test_equal_samples_have_a_gradient_of_zero() -> None:
    x = draws(4, 2, 0)
    for distance in (
        lambda a: wasserstein_1d(a[:, 0], x[:, 0], p=2.0),
        lambda a: sliced_wasserstein(a, x, directions=4, generator=torch.Generator().manual_seed(0)),
        lambda a: energy_distance(a, x),
    ):
        moved = x.clone().requires_grad_()
        (gradient,) = torch.autograd.grad(distance(moved), moved)
        assert (gradient == 0).all()


@pytest.mark.plain
def test_refuses_in_one_line() -> None:
    x, y = torch.zeros(3, 2), torch.zeros(3, 1)
    cases = [
        (lambda: mmd2(x, x, 0.0), "lengthscale must be positive and finite, got 0.0"),
        (lambda: mmd2(x[:1], x, 1.0), r"x must have shape \(n, d\) or \(n,\) with n at least 2, got \(1, 2\)"),
        (lambda: energy_distance(x, y), "x and y must have the same dimension, got 2 and 1"),
        (lambda: energy_distance(x, x * math.nan), "y must be finite, got nan or infinity"),
        (lambda: wasserstein_1d(y, y, 0.5), "p must be at least 1 and finite, got 0.5"),
        (lambda: wasserstein_1d(x, x), "x and y must be numbers, got 2 of them per sample: take sliced_wasserstein"),
        (
            lambda: sliced_wasserstein(x, x, directions=0, generator=torch.Generator()),
            "directions must be a whole number of at least 1, got 0",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()
