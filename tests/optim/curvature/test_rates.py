"""Learning rates, momentum and damping: the law, its limits, and descents that converge or do not."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.optim import broadened, heavy_ball, max_lr, min_damping, shrinkage_damping

LAMBDA, C = 10.0, 3200.0  # B_c = 32


def slope(batch: float, **options: bool) -> float:
    """The slope of log α in log B."""
    low, high = (max_lr(LAMBDA, C, batch * factor, **options) for factor in (0.999, 1.001))
    return math.log(high / low) / math.log(1.001 / 0.999)


def test_the_law_is_linear_in_small_batches_and_saturates_in_large_ones():
    assert slope(1e-4) == pytest.approx(1, abs=1e-4)
    assert slope(32) == pytest.approx(0.5, abs=1e-4)
    assert slope(1e8) == pytest.approx(0, abs=1e-4)
    assert max_lr(LAMBDA, C, 1e12) == pytest.approx(2 / LAMBDA)
    assert max_lr(LAMBDA, C, 1000, n=1000) == 2 / LAMBDA
    assert max_lr(LAMBDA, C, 32) == pytest.approx(1 / LAMBDA)


def test_independent_noise_goes_as_the_square_root_below_the_critical_batch():
    assert slope(1, bulk=True) == pytest.approx(0.5, abs=1e-6)
    assert slope(31, bulk=True) == pytest.approx(0.5, abs=1e-6)
    assert max_lr(LAMBDA, C, 32 * (1 - 1e-9), bulk=True) == pytest.approx(max_lr(LAMBDA, C, 32), rel=1e-6)
    assert max_lr(LAMBDA, C, 500, bulk=True) == max_lr(LAMBDA, C, 500)


@given(st.floats(0.01, 1e3), st.floats(0, 1e5), st.floats(1, 1e6), st.floats(1.01, 10))
def test_the_law_rises_with_the_batch_and_is_never_above_the_edge(lmbda, c, batch, factor):
    law = max_lr(lmbda, c, batch)
    assert law <= max_lr(lmbda, c, batch * factor) * (1 + 1e-12)
    assert law <= max_lr(lmbda, c, batch, bulk=True) * (1 + 1e-12)
    assert max_lr(lmbda, c, batch, bulk=True) == pytest.approx(2 / broadened(lmbda, c, batch))


@pytest.mark.parametrize(("momentum", "nesterov"), [(0.0, False), (0.9, False), (0.9, True), (0.5, True)])
def test_torch_sgd_diverges_just_above_the_limit_and_converges_below(momentum, nesterov):
    values = torch.tensor([4.0, 1.0, 0.3], dtype=torch.float64)
    limit = max_lr(4.0, 0.0, 8, momentum=momentum, nesterov=nesterov)
    for factor, diverges in ((0.95, False), (1.05, True)):
        x = torch.ones(3, dtype=torch.float64, requires_grad=True)
        optimizer = torch.optim.SGD([x], lr=factor * limit, momentum=momentum, nesterov=nesterov)
        for _ in range(600):
            x.grad = values * x.detach()
            optimizer.step()
        assert bool(x.abs().max() > 1e3) == diverges
        assert bool(x.abs().max() < 1e-3) != diverges


def test_descent_with_a_realised_batch_hessian_obeys_its_own_limit():
    """A random quadratic, whose batch Hessian has noise of independent entries."""
    size, batch, sigma = 150, 40, 0.2
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((size, size)) * sigma / math.sqrt(batch)
    realised = np.triu(noise) + np.triu(noise, 1).T + np.diag(np.r_[5.0, np.ones(size - 1)])
    predicted = max_lr(5.0, size * sigma**2, batch)
    limit = 2 / float(np.linalg.eigvalsh(realised)[-1])
    assert predicted == pytest.approx(limit, rel=0.05)
    assert limit < 0.999 * 2 / 5  # the noise has moved the eigenvalue outwards
    for factor, diverges in ((0.9, False), (1.1, True)):
        x = np.ones(size)
        for _ in range(300):
            x = x - factor * limit * realised @ x
        assert (np.abs(x).max() > 1e3) == diverges
        assert (np.abs(x).max() < 1e-3) != diverges


@given(st.floats(0.01, 1e3), st.floats(1e-4, 1))
def test_heavy_ball_has_the_spectral_radius_of_its_momentum(lmbda, ratio):
    mu = ratio * lmbda
    alpha, rho = heavy_ball(lmbda, mu)

    def radius(value: float) -> float:
        return max(abs(np.linalg.eigvals([[1 + rho - alpha * value, -rho], [1, 0]])))

    for value in (mu, math.sqrt(mu * lmbda), lmbda):
        assert radius(value) == pytest.approx(math.sqrt(rho), abs=1e-5)


def test_heavy_ball_of_one_eigenvalue_is_newton_and_of_a_flat_direction_never_ends():
    assert heavy_ball(4.0, 4.0) == (0.25, 0.0)
    assert heavy_ball(4.0, 0.0) == (1.0, 1.0)


def test_damping_is_in_proportion_to_the_rate_over_the_batch():
    delta = min_damping(0.1, 32, C, LAMBDA)
    assert delta == pytest.approx(0.1 * C / (2 * 32 * LAMBDA))
    assert min_damping(0.1, 64, C, LAMBDA) == pytest.approx(delta / 2)
    assert min_damping(0.1, 500, C, LAMBDA, n=500) == 0
    # At α = 2 it is the broadening: what the preconditioner's estimate lacks.
    assert min_damping(2.0, 400, C, LAMBDA) == pytest.approx(broadened(LAMBDA, C, 400) - LAMBDA)


def test_shrinkage_by_hand():
    z = torch.tensor([1.0, 0, 0])
    products = torch.tensor([[2.0, 3, 0], [2.0, 1, 0]])  # mean (2, 2, 0): V = 1, μ = 2, D = 4
    found = shrinkage_damping(products, z, batch=10, n=20, lr=0.1)
    assert found.weight == pytest.approx(1 - 0.5 / 4)
    assert found.damping == pytest.approx((1 - 0.875) / 0.875 + 0.1)
    assert shrinkage_damping(products, z, 10, 20, previous=0.5).weight == pytest.approx((0.5 + 0.875) / 2)


def test_shrinkage_without_noise_needs_no_damping_and_without_signal_is_infinite():
    z = torch.tensor([1.0, 0])
    same = torch.tensor([[3.0, 1], [3.0, 1]])
    assert shrinkage_damping(same, z, 10, 20, lr=0.2) == (pytest.approx(0.2), 1.0)
    multiple = torch.tensor([[3.0, 0], [3.0, 0]])  # of the identity already: D = 0, V = 0
    assert shrinkage_damping(multiple, z, 10, 20).damping == 0
    noise = torch.tensor([[3.0, 1], [3.0, -1]])  # D = 0, V > 0
    assert shrinkage_damping(noise, z, 10, 20).damping == math.inf
    wild = torch.tensor([[3.0, 5], [3.0, -4]])  # a < 0
    assert shrinkage_damping(wild, z, 20, 20).damping == math.inf


def test_shrinkage_of_near_equal_products_keeps_its_digits():
    z = torch.tensor([1.0, 0], dtype=torch.float64)
    products = torch.tensor([[0.0, 1e6], [0.0, 1e6 + 2e-3]], dtype=torch.float64)  # V = 1e-6, D = 1e12
    assert 1 - shrinkage_damping(products, z, 20, 20).weight == pytest.approx(1e-18, abs=2e-16)
    near = torch.tensor([[1e6, 1.0], [1e6, 3.0]], dtype=torch.float64)  # ‖h‖² is 1e12, V is 1
    assert shrinkage_damping(near, z, 20, 20).weight == pytest.approx(0.75, rel=1e-9)


@pytest.mark.plain
def test_what_cannot_be_is_refused():
    for lmbda in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"lmbda must be positive and finite, got"):
            max_lr(lmbda, 1.0, 8)
    with pytest.raises(ValueError, match=r"momentum must be in \[0, 1\), got 1"):
        max_lr(1.0, 1.0, 8, momentum=1)
    with pytest.raises(ValueError, match=r"batch must be at most n, 8, got 9"):
        max_lr(1.0, 1.0, 9, n=8)
    with pytest.raises(ValueError, match=r"c must be finite and not negative, got -1"):
        max_lr(1.0, -1, 8)
    with pytest.raises(ValueError, match=r"mu must be in \[0, 1.0\], lmbda, got 2.0"):
        heavy_ball(1.0, 2.0)
    with pytest.raises(ValueError, match=r"alpha must be finite and not negative, got -1"):
        min_damping(-1, 8, 1.0, 1.0)
    with pytest.raises(ValueError, match=r"products must be of at least two batches, got 1"):
        shrinkage_damping(torch.ones(1, 2), torch.tensor([1.0, 0]), 8, 9)
    with pytest.raises(ValueError, match=r"probe must have length 1, got 2"):
        shrinkage_damping(torch.ones(2, 2), torch.tensor([2.0, 0]), 8, 9)
