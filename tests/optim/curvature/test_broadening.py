"""What batches do to eigenvalues: limits, continuity, and random matrices."""

import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.optim import broadened, broadened_ggn, fit_broadening, overlap
from aleator.optim.curvature.broadening import broadening_of
from aleator.optim.scaling import effective_batch


def test_all_of_the_data_have_no_noise_and_endless_data_have_that_of_b():
    assert broadened(3.0, 50.0, 100, n=100) == 3.0
    assert overlap(3.0, 50.0, 100, n=100) == 1.0
    assert effective_batch(50, 100) == 100
    assert effective_batch(50) == 50
    assert broadened(3.0, 50.0, 50, n=100) == broadened(3.0, 50.0, 100)


@given(st.floats(0.01, 100), st.floats(0.01, 1e4), st.floats(1, 1e6))
def test_eigenvalues_move_outwards_alike_at_both_ends(lmbda, c, batch):
    up, down = broadened(lmbda, c, batch), broadened(-lmbda, c, batch)
    assert up == -down
    assert up >= lmbda
    assert up >= 2 * math.sqrt(c / batch) * (1 - 1e-12)
    assert overlap(lmbda, c, batch) == overlap(-lmbda, c, batch)
    assert 0 <= overlap(lmbda, c, batch) <= 1


def test_both_forms_meet_at_the_threshold():
    c, batch = 8.0, 2.0
    for lmbda in (2 + 1e-9, 2 - 1e-9):
        assert broadened(lmbda, c, batch) == pytest.approx(4, rel=1e-8)
        assert overlap(lmbda, c, batch) == pytest.approx(0, abs=1e-8)
    assert broadened(0.0, c, batch) == 4  # the upper edge
    assert broadened(-1.0, c, batch) == -4


@pytest.mark.parametrize(("lmbda", "predicted"), [(6.0, 7.28), (2.0, 5.543)])
def test_additive_noise_of_random_matrices(lmbda, predicted):
    """P = 600, B = 50, σ = 0.8, 8 draws: within 4 % or 3 standard errors, whichever is more."""
    size, batch, sigma = 600, 50, 0.8
    c = size * sigma**2
    assert broadened(lmbda, c, batch) == pytest.approx(predicted, abs=5e-3)
    rng = np.random.default_rng(0)
    tops, overlaps = [], []
    for _ in range(8):
        noise = rng.standard_normal((size, size)).astype(np.float32) * sigma / math.sqrt(batch)
        matrix = (np.triu(noise) + np.triu(noise, 1).T).astype(np.float32)
        matrix[0, 0] += lmbda
        values, vectors = np.linalg.eigh(matrix)
        tops.append(float(values[-1]))
        overlaps.append(float(vectors[0, -1] ** 2))
    off = max(0.04 * predicted, 3 * np.std(tops, ddof=1) / math.sqrt(8))
    assert np.mean(tops) == pytest.approx(predicted, abs=off)
    off = max(0.04, 3 * np.std(overlaps, ddof=1) / math.sqrt(8))
    assert np.mean(overlaps) == pytest.approx(overlap(lmbda, c, batch), abs=off)


@pytest.mark.parametrize("lmbda", [6.0, 1.5])
def test_multiplicative_noise_of_sample_covariances(lmbda):
    """P = 300, B = 200, σ = 1, 8 draws."""
    size, batch = 300, 200
    predicted = broadened_ggn(lmbda, 1.0, size / batch)
    rng = np.random.default_rng(0)
    scale = np.ones(size)
    scale[0] = math.sqrt(lmbda)
    tops = [
        np.linalg.svd(rng.standard_normal((batch, size)) * scale, compute_uv=False)[0] ** 2 / batch for _ in range(8)
    ]
    assert np.mean(tops) == pytest.approx(predicted, abs=max(0.04 * predicted, 3 * np.std(tops, ddof=1) / math.sqrt(8)))


def test_ggn_meets_at_its_threshold_and_has_the_limits():
    edge = 2 * (1 + math.sqrt(0.5))
    for lmbda in (edge + 1e-7, edge - 1e-7):
        assert broadened_ggn(lmbda, 2.0, 0.5) == pytest.approx(2 * (1 + math.sqrt(0.5)) ** 2, rel=1e-6)
    assert broadened_ggn(3.0, 2.0, 0.0) == 3.0
    assert broadened_ggn(1e6, 2.0, 0.5) == pytest.approx(1e6 + 1, rel=1e-9)


def test_a_law_that_holds_is_fitted_exactly():
    sizes, n = [16, 64, 256], 1000
    x = [1 / effective_batch(size, n) for size in sizes]
    found = broadening_of(x, [[2.0 + 8.0 * each] * 4 for each in x])
    assert found.lmbda == pytest.approx(2, rel=1e-12)
    assert found.c == pytest.approx(16, rel=1e-12)
    assert found.stderr == pytest.approx(0, abs=1e-9)


def test_the_standard_error_covers_the_truth():
    """200 fits to noisy eigenvalues: c is within two standard errors in 89 to 98.5 % of them (normal: 95 %)."""
    rng = np.random.default_rng(0)
    x = [1 / size for size in (16, 64, 256)]
    inside = 0
    for _ in range(200):
        tops = [list((3 + 20 * each) * (1 + 0.05 * rng.standard_normal(8))) for each in x]
        found = broadening_of(x, tops)
        inside += abs(found.c - 60) < 2 * found.stderr
    assert 178 <= inside <= 197


def test_batches_are_drawn_and_their_eigenvalues_taken_before_the_mean():
    generator = torch.Generator().manual_seed(0)
    asked = []

    def factory(size: int) -> torch.Tensor:
        asked.append(size)
        return torch.diag(torch.tensor([2 + 8 / size, 1.0, 0.5], dtype=torch.float64))

    found = fit_broadening(factory, [16, 64], draws=3, generator=generator)
    assert asked == [16] * 3 + [64] * 3
    assert found == (pytest.approx(2), pytest.approx(16), pytest.approx(0, abs=1e-6))


def test_a_spike_below_the_noise_warns():
    with pytest.warns(UserWarning, match=r"eigenvalue 1 is below the noise"):
        broadening_of([1 / 4, 1 / 16], [[1 + 2.0] * 2, [1 + 0.5] * 2])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        broadening_of([1 / 16, 1 / 64], [[1.5] * 2, [1.125] * 2])


@pytest.mark.plain
def test_what_cannot_be_is_refused():
    generator = torch.Generator()
    with pytest.raises(ValueError, match=r"batch must be at most n, 10, got 11"):
        broadened(1.0, 1.0, 11, n=10)
    with pytest.raises(ValueError, match=r"batch must be positive and finite, got 0"):
        broadened(1.0, 1.0, 0)
    with pytest.raises(ValueError, match=r"c must be finite and not negative, got -1"):
        broadened(1.0, -1.0, 5)
    with pytest.raises(ValueError, match=r"variance must be finite and not negative, got nan"):
        broadened_ggn(1.0, math.nan, 1.0)
    with pytest.raises(ValueError, match=r"batch_sizes must hold at least two different ones, got \[8, 8\]"):
        fit_broadening(lambda size: torch.eye(2), [8, 8], generator=generator)
    with pytest.raises(ValueError, match=r"draws must be at least 2, got 1"):
        fit_broadening(lambda size: torch.eye(2), [8, 16], draws=1, generator=generator)
    with pytest.raises(ValueError, match=r"batch_sizes must be at most n, 10, got 16"):
        fit_broadening(lambda size: torch.eye(2), [8, 16], n=10, generator=generator)
    with pytest.raises(ValueError, match=r"largest eigenvalue of every batch must be positive, got -1"):
        broadening_of([0.1, 0.2], [[1.0, -1.0], [1.0, 2.0]])
