"""Measures of identity and of copies."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from aleator.video import copy_paste, feature_distance, frechet_distance, identity_similarity, identity_variation


def drawn(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_similarity_is_clamped_frame_by_frame_and_variation_is_not():
    reference = torch.tensor([2.0, 0.0])
    frames = torch.tensor([[3.0, 0.0], [-1.0, 0.0], [0.0, 5.0], [1.0, 1.0]])
    cosines = np.array([1, -1, 0, 2**-0.5])
    assert float(identity_similarity(reference, frames)) == pytest.approx(cosines.clip(min=0).mean())
    assert float(identity_similarity(reference, frames, clamp=False)) == pytest.approx(cosines.mean())
    assert float(identity_variation(reference, frames)) == pytest.approx(cosines.std())


def test_a_frozen_copy_is_near_and_without_diversity():
    reference = torch.randn(2, 4, generator=drawn(0))
    copied = copy_paste(reference, reference.unsqueeze(1).expand(2, 3, 4))
    assert copied.nearness == pytest.approx(1)
    assert copied.diversity == pytest.approx(0, abs=1e-6)
    away = copy_paste(torch.tensor([1.0, 0.0]), torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
    assert float(away.nearness) == pytest.approx(0)
    assert float(away.diversity) == pytest.approx(2)


def test_the_frechet_distance_equals_the_formula_with_scipys_root():
    x, y = torch.randn(50, 6, generator=drawn(1)), torch.randn(40, 6, generator=drawn(2)) * 1.5 + 0.3
    a, b = x.double().numpy(), y.double().numpy()
    of_a, of_b = np.cov(a.T), np.cov(b.T)  # they divide by n − 1
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(of_a + of_b - 2 * sqrtm(of_a @ of_b).real)
    assert float(frechet_distance(x, y)) == pytest.approx(expected, rel=1e-9)
    assert float(frechet_distance(x, x)) == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "m", "width"), [(2, 3, 40), (12, 9, 40), (5, 4, 1)])
def test_the_frechet_distance_holds_with_fewer_features_than_their_width(n, m, width):
    x = 20 * torch.randn(n, width, generator=drawn(1), dtype=torch.float64)
    y = torch.randn(m, width, generator=drawn(2), dtype=torch.float64) + 0.3
    a, b = ((each - each.mean(0)).numpy() / (len(each) - 1) ** 0.5 for each in (x, y))
    # The trace of the root of AᵀA BᵀB is the sum of the singular values of A Bᵀ.
    shared = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    expected = float((x.mean(0) - y.mean(0)).square().sum()) + (a**2).sum() + (b**2).sum() - 2 * shared
    assert float(frechet_distance(x, y)) == pytest.approx(expected, rel=1e-12)
    assert float(frechet_distance(x, x)) == pytest.approx(0, abs=1e-10)


def test_features_in_half_precision_are_measured_in_float32():
    reference, frames = (100 * torch.randn(*size, 512, generator=drawn(3)).half() for size in ((), (4,)))
    measures = (identity_similarity, identity_variation, copy_paste, feature_distance)
    for measure in measures:
        found, expected = (measure(reference.to(dtype), frames.to(dtype)) for dtype in (torch.half, torch.float32))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)


def test_the_feature_distance_is_the_squared_distance_to_one_reference():
    found = feature_distance(torch.tensor([1.0, 2.0]), torch.tensor([[1.0, 0.0], [4.0, 2.0]]))
    assert float(found) == pytest.approx((4 + 9) / 2)


@pytest.mark.plain
def test_refuses_features_of_another_width_and_too_few():
    with pytest.raises(ValueError, match="features of frames must have the width of the reference's, 3, got 4"):
        identity_similarity(torch.ones(3), torch.ones(2, 4))
    with pytest.raises(ValueError, match="frames must be at least 1, got 0"):
        identity_variation(torch.ones(3), torch.ones(0, 3))
    with pytest.raises(ValueError, match="frames must be at least 2, got 1"):
        copy_paste(torch.ones(3), torch.ones(1, 3))
    with pytest.raises(ValueError, match="features must have one width, got 3 and 4"):
        frechet_distance(torch.ones(5, 3), torch.ones(5, 4))
    with pytest.raises(ValueError, match="features must be finite, got NaN or an infinity"):
        frechet_distance(torch.full((5, 3), torch.nan), torch.ones(5, 3))
    with pytest.raises(ValueError, match="needs 2 features of each sample at least, got 1 and 5"):
        frechet_distance(torch.ones(1, 3), torch.ones(5, 3))
