"""Features whose inner products are the Gaussian kernel: on average, or at the landmarks."""

import copy
import math

import numpy as np
import pytest
import torch
from sklearn.gaussian_process.kernels import RBF
from sklearn.kernel_ridge import KernelRidge
from torch import Tensor

from aleator.nn import (
    KernelHead,
    NystromFeatures,
    RandomFourierFeatures,
    gaussian_kernel,
    kernel_ridge,
    leverage_scores,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int, d: int, seed: int = 0) -> Tensor:
    return torch.randn(n, d, generator=seeded(seed), dtype=torch.float64)


def test_gaussian_kernel_is_scikit_learns() -> None:
    x, y = points(30, 3), points(20, 3, 1)
    theirs = RBF(0.7)(x.numpy(), y.numpy())
    np.testing.assert_allclose(gaussian_kernel(x, y, 0.7).numpy(), theirs, rtol=1e-12)


def test_gaussian_kernel_sees_close_points_far_from_the_origin() -> None:
    x = points(40, 2) * 1e-3
    near, far = gaussian_kernel(x, x, 1e-3), gaussian_kernel(x + 1000, x + 1000, 1e-3)
    torch.testing.assert_close(far, near, rtol=1e-6, atol=1e-9)
    assert bool((far.diagonal() == 1).all())


@pytest.mark.parametrize("orthogonal", [False, True])
def test_inner_products_of_random_features_are_the_kernel_on_average(orthogonal: bool) -> None:
    """5 standard errors over 300 draws of the features, for every pair of 6 points in 3 dimensions."""
    x = points(6, 3).float()
    products = []
    for seed in range(300):
        z = RandomFourierFeatures(3, 20, 1.2, orthogonal, seeded(seed))(x)
        products.append(z @ z.T)
    found = torch.stack(products).double()
    error = found.std(0) / math.sqrt(300)
    assert bool(((found.mean(0) - gaussian_kernel(x.double(), x.double(), 1.2)).abs() < 5 * error).all())


def test_orthogonal_features_vary_less() -> None:
    x, d, errors = points(20, 10).float() * 0.5, 10, {}
    exact = gaussian_kernel(x.double(), x.double(), 2.0)
    for orthogonal in (False, True):
        z = [RandomFourierFeatures(d, 100, 2.0, orthogonal, seeded(seed))(x).double() for seed in range(50)]
        errors[orthogonal] = sum(float((f @ f.T - exact).square().mean()) for f in z)
    assert errors[True] < 0.8 * errors[False]


def test_orthogonal_rows_are_orthogonal_in_blocks_and_as_long_as_normal_ones() -> None:
    weight = RandomFourierFeatures(50, 1020, 1.0, True, seeded()).weight.double()
    assert weight.shape == (1020, 50)
    for block in weight.split(50):
        unit = block / block.norm(dim=1, keepdim=True)
        torch.testing.assert_close(unit @ unit.T, torch.eye(len(block), dtype=torch.float64), rtol=0, atol=1e-6)
    squares = weight.square().sum(1)  # χ² of 50: mean 50, variance 100
    assert float(squares.mean()) == pytest.approx(50, abs=5 * math.sqrt(100 / 1020))
    assert float(squares.var()) == pytest.approx(100, rel=0.3)
    assert len(squares.unique()) == 1020


def test_lengthscale_divides_the_inputs() -> None:
    x = points(5, 3).float()
    one, two = (RandomFourierFeatures(3, 8, ell, generator=seeded()) for ell in (1.0, 2.0))
    torch.testing.assert_close(two(2 * x), one(x))
    assert torch.equal(one.weight, two.weight)


def test_nystrom_is_exact_at_the_landmarks_and_never_above_the_kernel() -> None:
    z, x = points(12, 2), points(40, 2, 1)
    features = NystromFeatures(z, 1.0)
    torch.testing.assert_close(features(z) @ features(z).T, gaussian_kernel(z, z, 1.0), rtol=1e-6, atol=1e-8)
    residual = gaussian_kernel(x, x, 1.0) - features(x) @ features(x).T
    assert float(torch.linalg.eigvalsh(residual).min()) > -1e-9  # a projection leaves a positive rest


def test_nystrom_bears_landmarks_that_coincide() -> None:
    z = points(6, 2)
    once, twice = NystromFeatures(z), NystromFeatures(torch.cat([z, z]))
    x = points(10, 2, 1)
    torch.testing.assert_close(twice(x) @ twice(x).T, once(x) @ once(x).T, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("choose", ["kmeans", "leverage"])
def test_chosen_landmarks_beat_the_first_examples(choose: str) -> None:
    """Two clusters, one of them rare: the first examples see only one of them well."""
    x = torch.cat([points(190, 2) * 0.3, points(10, 2, 1) * 0.3 + 5])
    exact = gaussian_kernel(x, x, 0.5)

    def error(features: NystromFeatures) -> float:
        return float((exact - features(x) @ features(x).T).square().mean())

    chosen = getattr(NystromFeatures, choose)(x, 20, 0.5, generator=seeded())
    assert error(chosen) < 0.1 * error(NystromFeatures(x[:20], 0.5))
    again = getattr(NystromFeatures, choose)(x, 20, 0.5, generator=seeded())
    assert torch.equal(chosen.landmarks, again.landmarks)


def test_leverage_scores_are_the_diagonal_of_the_ridge_projection() -> None:
    k = gaussian_kernel(points(20, 2), points(20, 2), 1.0)
    expected = (k @ (k + 0.01 * 20 * torch.eye(20, dtype=torch.float64)).inverse()).diagonal()
    torch.testing.assert_close(leverage_scores(k, 0.01), expected, rtol=1e-9, atol=1e-12)


def test_kernel_ridge_is_scikit_learns() -> None:
    x, y = points(50, 3), points(50, 2, 1)
    alpha = kernel_ridge(gaussian_kernel(x, x, 1.5), y, 0.01)
    theirs = KernelRidge(alpha=0.01 * 50, kernel="rbf", gamma=1 / (2 * 1.5**2)).fit(x.numpy(), y.numpy())
    np.testing.assert_allclose(alpha.numpy(), theirs.dual_coef_, rtol=1e-9)
    assert kernel_ridge(gaussian_kernel(x, x, 1.5), y[:, 0], 0.01).shape == (50,)


def test_trained_kernel_head_comes_to_the_closed_form_of_its_features() -> None:
    x, y = points(80, 2), points(80, 1, 1)
    head = KernelHead(NystromFeatures(x[:15], 1.0), 1, bias=False)
    assert float(head(x).detach().abs().max()) == 0
    lam, z = 0.01, head.features(x)
    optimizer = torch.optim.LBFGS(
        head.parameters(), max_iter=500, tolerance_grad=1e-12, tolerance_change=0, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (head(x) - y).square().mean() + lam * head.linear.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    alpha = kernel_ridge(z @ z.T, y, lam)
    torch.testing.assert_close(head(x).detach(), z @ z.T @ alpha, rtol=1e-5, atol=1e-7)


def random_features(seed: int) -> RandomFourierFeatures:
    return RandomFourierFeatures(3, 8, generator=seeded(seed))


def nystrom_features(seed: int) -> NystromFeatures:
    return NystromFeatures(points(8, 3, seed).float())


@pytest.mark.parametrize("make", [random_features, nystrom_features])
def test_a_head_is_saved_copied_and_moved_to_another_type_with_its_features(make) -> None:
    x, head, other = points(5, 3).float(), KernelHead(make(0), 2), KernelHead(make(1), 2)
    with torch.no_grad():
        head.linear.weight.copy_(points(2, 8).float())
    other.load_state_dict(head.state_dict())
    assert torch.equal(other(x), head(x))
    assert torch.equal(copy.deepcopy(head)(x), head(x))
    assert [name for name, _ in head.named_parameters()] == ["linear.weight", "linear.bias"]
    torch.testing.assert_close(head.double()(x.double()).float(), other(x), rtol=1e-4, atol=1e-5)
    assert head(x.double().view(5, 1, 3)).shape == (5, 1, 2)


@pytest.mark.plain
def test_refuses_in_one_line() -> None:
    k = torch.eye(3)
    cases = [
        (lambda: RandomFourierFeatures(0, 8), "in_features must be at least 1, got 0"),
        (lambda: RandomFourierFeatures(3, 8, lengthscale=0.0), "lengthscale must be positive and finite, got 0.0"),
        (lambda: NystromFeatures(torch.zeros(0, 3)), r"landmarks must be finite and at least one, got shape \(0, 3\)"),
        (
            lambda: NystromFeatures.kmeans(torch.zeros(3, 2), 4, generator=seeded()),
            r"num_landmarks must be in \[1, 3\], the number of examples, got 4",
        ),
        (lambda: kernel_ridge(k, torch.ones(3), 0.0), "lam must be positive and finite, got 0.0"),
        (
            lambda: kernel_ridge(torch.ones(3, 3), torch.ones(3), 1e-12),
            r"lam must be large enough for K \+ lam·n·I to be positive definite in torch.float32, got 1e-12",
        ),
        (lambda: KernelHead(NystromFeatures(k), 0), "out_features must be at least 1, got 0"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()
