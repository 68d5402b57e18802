"""Lanczos' algorithm and its quadrature, against 60 digits, moments, and dense eigenvalues."""

import math

import mpmath
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.optim import CurvatureError, lanczos, slq, top_eigenpairs


def symmetric(size: int, seed: int, outliers: tuple[float, ...] = ()) -> torch.Tensor:
    """A matrix of random directions with eigenvalues in [-1, 1], and some outliers."""
    generator = torch.Generator().manual_seed(seed)
    directions, _ = torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))
    values = 2 * torch.rand(size, generator=generator, dtype=torch.float64) - 1
    values[: len(outliers)] = torch.tensor(outliers, dtype=torch.float64)
    matrix = directions * values @ directions.T
    return (matrix + matrix.T) / 2  # else it is not symmetric in its last digits


def probe_of(size: int, seed: int = 1) -> torch.Tensor:
    return torch.randn(size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def exact(matrix: torch.Tensor, probe: torch.Tensor, steps: int) -> tuple[list, list, list, list]:
    """The textbook's recurrence in 120 digits, of which 60 are left when orthogonality has suffered: α, β, θ, ω."""
    with mpmath.workdps(120):
        a = mpmath.matrix(matrix.tolist())
        q = mpmath.matrix(probe.tolist())
        q /= mpmath.norm(q)
        before, alpha, beta = None, [], []
        for _ in range(steps):
            w = a * q
            alpha.append((q.T * w)[0])
            w = w - alpha[-1] * q - (beta[-1] * before if before is not None else 0 * q)
            beta.append(mpmath.norm(w))
            before, q = q, w / beta[-1]
        t = mpmath.zeros(steps)
        for i in range(steps):
            t[i, i] = alpha[i]
            if i + 1 < steps:
                t[i, i + 1] = t[i + 1, i] = beta[i]
        nodes, vectors = mpmath.eigsy(t)
        weights = [float(vectors[0, k] ** 2) for k in range(steps)]
        return [float(x) for x in alpha], [float(x) for x in beta[:-1]], [float(x) for x in nodes], weights


CASES = [(8, 6, ()), (20, 12, ()), (30, 29, (100.0,)), (24, 20, (100.0, 50.0, -80.0))]


@pytest.mark.parametrize(("size", "steps", "outliers"), CASES)
def test_coefficients_nodes_and_weights_equal_60_digits(size, steps, outliers):
    matrix, probe = symmetric(size, size, outliers), probe_of(size)
    alpha, beta, nodes, weights = exact(matrix, probe, steps)
    found = lanczos(matrix, steps, probe)
    spectrum = slq(matrix, steps, probe=probe)
    assert found.alpha.tolist() == pytest.approx(alpha, rel=1e-8, abs=1e-8)
    assert found.beta.tolist() == pytest.approx(beta, rel=1e-8, abs=1e-8)
    assert spectrum.nodes[0].tolist() == pytest.approx(nodes, rel=1e-8, abs=1e-8)
    assert spectrum.weights[0].tolist() == pytest.approx(weights, rel=1e-8, abs=1e-8)
    assert len(found.alpha) == steps
    assert len(found.beta) == steps - 1
    t = torch.diag(found.alpha) + torch.diag(found.beta, 1) + torch.diag(found.beta, -1)
    assert torch.allclose(found.Q.T @ found.Q, torch.eye(steps, dtype=torch.float64), atol=1e-12)
    assert torch.allclose(found.Q.T @ matrix @ found.Q, t, atol=1e-8)


def test_without_reorthogonalisation_the_same_case_fails():
    matrix, probe = symmetric(30, 30, (100.0,)), probe_of(30)
    _, _, nodes, _ = exact(matrix, probe, 29)
    found = lanczos(matrix, 29, probe, reorth="none")
    assert found.Q is None
    assert max(abs(a - b) for a, b in zip(found.ritz()[0].tolist(), nodes, strict=True)) > 1e-3
    # a ghost: the outlier is found twice
    assert found.ritz()[0][-2:].tolist() == pytest.approx([100.0, 100.0], rel=1e-6)


def test_all_steps_find_all_eigenvalues():
    matrix = symmetric(12, 3, (40.0,))
    nodes = lanczos(matrix, 12, probe_of(12)).ritz()[0]
    assert torch.allclose(nodes, torch.linalg.eigvalsh(matrix), atol=1e-10)


@given(st.integers(2, 12), st.integers(1, 6), st.integers(0, 10**6))
def test_moments_are_exact_up_to_twice_the_steps(size, steps, seed):
    matrix, probe = symmetric(size, seed), probe_of(size, seed + 1)
    spectrum = slq(matrix, steps, probe=probe)
    assert float(spectrum.weights.sum()) == pytest.approx(1, abs=1e-12)
    q = probe / probe.norm()
    power = q
    for k in range(2 * min(steps, size)):
        assert spectrum.moment(k) == pytest.approx(float(q @ power), abs=1e-9)
        power = matrix @ power


@given(st.integers(2, 12), st.integers(1, 8), st.integers(0, 10**6))
def test_nodes_are_never_outside_of_the_spectrum(size, steps, seed):
    matrix = symmetric(size, seed)
    values = torch.linalg.eigvalsh(matrix)
    spectrum = slq(matrix, steps, probe=probe_of(size, seed + 1))
    assert spectrum.top <= float(values[-1]) + 1e-12
    assert spectrum.bottom >= float(values[0]) - 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_two_distinct_eigenvalues_end_it_after_two_steps(dtype):
    directions, _ = torch.linalg.qr(probe_of(100).reshape(10, 10))
    values = torch.tensor([3.0] * 4 + [-1.0] * 6, dtype=torch.float64)
    matrix = (directions * values @ directions.T).to(dtype)
    found = lanczos(matrix, 8, probe_of(10))
    assert len(found.alpha) == 2
    assert found.residual == 0
    assert found.ritz()[0].tolist() == pytest.approx([-1, 3], rel=1e-5)


def test_a_zero_matrix_has_one_eigenvalue():
    assert lanczos(torch.zeros(5, 5), 4, torch.ones(5)).ritz()[0].tolist() == [0.0]


def test_probes_that_end_early_keep_their_weights():
    matrix = torch.diag(torch.tensor([5.0, 5, 5, 1], dtype=torch.float64))
    spectrum = slq(matrix, 4, probes=6, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(spectrum.weights.sum(1), torch.ones(6, dtype=torch.float64))
    assert (spectrum.top, spectrum.bottom) == (pytest.approx(5), pytest.approx(1))


def test_trace_is_within_its_standard_error_and_exact_on_a_diagonal():
    matrix = symmetric(40, 4, (20.0,))
    generator = torch.Generator().manual_seed(5)
    value, error = slq(matrix, 10, probes=64, generator=generator).trace(40)
    assert abs(value - float(matrix.trace())) < 3.5 * error  # false alarms: 1 in 1 000
    assert 0 < error < 10
    diagonal = torch.diag(torch.arange(1.0, 6))
    assert slq(diagonal, 3, probes=2, generator=generator).trace(5) == (pytest.approx(15), pytest.approx(0, abs=1e-5))
    assert math.isnan(slq(diagonal, 3, generator=generator).trace(5)[1])


def test_density_integrates_to_one_and_lies_at_the_nodes():
    matrix = torch.diag(torch.tensor([0.0, 0, 0, 10], dtype=torch.float64))
    spectrum = slq(matrix, 4, probes=3, generator=torch.Generator().manual_seed(0))
    grid = torch.linspace(-5, 15, 2001)
    density = spectrum.density(grid, 0.3)
    assert float(density.sum() * 0.01) == pytest.approx(1, abs=1e-6)
    assert float(density[grid > 5].sum() * 0.01) == pytest.approx(0.25, abs=1e-6)


def test_top_pairs_are_eigenpairs_and_residuals_say_how_far():
    matrix = symmetric(40, 6, (30.0, 20.0, 10.0))
    values = torch.linalg.eigvalsh(matrix).flip(0)
    pairs = top_eigenpairs(matrix, 3, 25, probe_of(40))
    assert torch.allclose(pairs.values, values[:3], atol=1e-9)
    assert torch.allclose(pairs.vectors @ pairs.vectors.T, torch.eye(3, dtype=torch.float64), atol=1e-9)
    few = top_eigenpairs(matrix, 2, 5, probe_of(40))
    for value, vector, residual in zip(few.values, few.vectors, few.residuals, strict=True):
        assert float((matrix @ vector - value * vector).norm()) == pytest.approx(float(residual), rel=1e-6, abs=1e-10)
        assert float((values - value).abs().min()) <= float(residual) + 1e-10


def test_a_warm_start_needs_fewer_steps():
    matrix = symmetric(200, 7, (1.5, 1.45, 1.4))
    moved = matrix + 1e-3 * symmetric(200, 8)
    top = float(torch.linalg.eigvalsh(moved)[-1])
    last = top_eigenpairs(matrix, 1, 60, probe_of(200)).vectors[0]
    cold = top - slq(moved, 4, probe=probe_of(200, 2)).top
    warm = top - slq(moved, 4, probe=last).top
    assert warm < 1e-3 * cold


@pytest.mark.plain
def test_what_cannot_be_is_refused():
    matrix = torch.eye(3)
    with pytest.raises(ValueError, match=r"steps must be at least 1, got 0"):
        lanczos(matrix, 0, torch.ones(3))
    with pytest.raises(ValueError, match=r"probe must be finite and not zero, got one of norm 0.0"):
        lanczos(matrix, 2, torch.zeros(3))
    with pytest.raises(ValueError, match=r"probe must be finite and not zero, got one of norm nan"):
        lanczos(matrix, 2, torch.full((3,), math.nan))
    with pytest.raises(ValueError, match=r"probe must have the shape \(3,\), got \(4,\)"):
        lanczos(matrix, 2, torch.ones(4))
    with pytest.raises(ValueError, match=r"generator must be given without a probe, got None"):
        lanczos(matrix, 2)
    with pytest.raises(ValueError, match=r"probes must be 1 with a probe, got 2"):
        slq(matrix, 2, probes=2, probe=torch.ones(3))
    with pytest.raises(ValueError, match=r"k must be in \[1, 5\], steps, got 6"):
        top_eigenpairs(matrix, 6, 5, torch.ones(3))
    with pytest.raises(ValueError, match=r"width must be positive, got 0"):
        slq(matrix, 2, probe=torch.ones(3)).density(torch.ones(1), 0)
    with pytest.raises(CurvatureError, match=r"not finite, in step 1 of 2"):
        lanczos(torch.full((3, 3), math.inf), 2, torch.ones(3))
