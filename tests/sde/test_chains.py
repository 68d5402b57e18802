"""MALA and HMC leave their density as it is, come to it from elsewhere, and say when they cannot."""

import math

import pytest
import torch
from scipy import stats
from torch import Tensor

from aleator.sde import HMC, MALA, leapfrog, mala_proposal

COVARIANCE = torch.tensor([[1.0, 0.8], [0.8, 2.0]], dtype=torch.float64)
PRECISION = COVARIANCE.inverse()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def log_density(x: Tensor) -> Tensor:
    return -((x @ PRECISION) * x).sum(-1) / 2


def exact_draws(n: int) -> Tensor:
    return torch.randn(n, 2, generator=seeded(1), dtype=torch.float64) @ torch.linalg.cholesky(COVARIANCE).T


def distance_to_target(x: Tensor) -> float:
    """The smallest p-value of Kolmogorov–Smirnov tests along three directions."""
    directions = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    scales = ((directions @ COVARIANCE) * directions).sum(-1).sqrt()
    projected = (x @ directions.T / scales).T
    return min(stats.kstest(column.numpy(), "norm").pvalue for column in projected)


@pytest.mark.parametrize(
    "sampler", [MALA(step_size=0.7, warmup=0), HMC(step_size=0.9, leapfrog_steps=3, warmup=0)], ids=["MALA", "HMC"]
)
def test_the_density_is_invariant_at_a_step_size_that_rejects_often(sampler) -> None:
    """Chains that begin in the density are still there after 8 steps; p below 1e-5 is a false alarm."""
    chains = sampler.sample(log_density, exact_draws(10_000), 8, seeded())
    assert 0.3 < float(chains.acceptance.mean()) < 0.9  # so that the decision matters
    assert distance_to_target(chains.draws[:, -1]) > 1e-5


def test_without_the_decision_the_same_step_leaves_the_density() -> None:
    x = exact_draws(20_000)
    noise = seeded()
    for _ in range(10):
        x, _ = mala_proposal(x, log_density, 0.7, torch.randn(x.shape, generator=noise, dtype=x.dtype))
    assert distance_to_target(x) < 1e-20


@pytest.mark.plain  # a loop, whose functions other tests check
@pytest.mark.parametrize("kind", [MALA, HMC])
def test_chains_come_from_far_away_and_learn_their_step_size(kind) -> None:
    init = torch.tensor([[10.0, -10.0], [-10.0, 10.0], [10.0, 10.0], [-10.0, -10.0]], dtype=torch.float64)
    learned = []
    for step_size in (1e-3, 10.0):
        sampler = kind(step_size, warmup=300, **({"leapfrog_steps": 3} if kind is HMC else {}))
        chains = sampler.sample(log_density, init, 500, seeded())
        assert chains.draws.shape == (4, 500, 2)
        assert max(chains.split_rhat()) < 1.1
        assert sampler.target_acceptance - 0.1 < float(chains.acceptance.mean()) < 0.97
        for j, size in enumerate(chains.effective_sample_size()):
            mean, variance = float(chains.draws[:, :, j].mean()), float(COVARIANCE[j, j])
            assert abs(mean) < 5 * math.sqrt(variance / size)
            assert float(chains.draws[:, :, j].var()) == pytest.approx(variance, abs=5 * variance * math.sqrt(3 / size))
        learned.append(float(chains.step_size.mean()))
    assert learned[0] == pytest.approx(learned[1], rel=0.25)  # wherever it began


def test_mala_proposal_is_the_formula() -> None:
    x = torch.tensor([[0.3, -1.2]], dtype=torch.float64)
    noise, h = torch.tensor([[0.5, 0.1]], dtype=torch.float64), 0.2
    grad = lambda y: -y @ PRECISION  # noqa: E731
    proposal, log_accept = mala_proposal(x, log_density, h, noise)
    expected = x + h * grad(x) + math.sqrt(2 * h) * noise
    torch.testing.assert_close(proposal, expected, rtol=1e-14, atol=0)

    def log_q(y: Tensor, given: Tensor) -> Tensor:
        return -(y - given - h * grad(given)).square().sum(-1) / (4 * h)

    ratio = log_density(expected) - log_density(x) + log_q(x, expected) - log_q(expected, x)
    torch.testing.assert_close(log_accept, ratio.clamp(max=0), rtol=1e-12, atol=1e-14)


def anharmonic(q: Tensor) -> Tensor:
    return q @ PRECISION + q**3


def test_leapfrog_is_reversible() -> None:
    q, p = torch.randn(2, 50, 2, generator=seeded(), dtype=torch.float64)
    q2, p2 = leapfrog(q, p, anharmonic, 0.05, 20)
    assert not torch.allclose(q, q2, atol=0.1)
    q3, p3 = leapfrog(q2, -p2, anharmonic, 0.05, 20)
    torch.testing.assert_close(q3, q, rtol=0, atol=1e-12)
    torch.testing.assert_close(-p3, p, rtol=0, atol=1e-12)


def test_leapfrog_preserves_volume() -> None:
    def end(state: Tensor) -> Tensor:
        return torch.cat(leapfrog(state[:2], state[2:], anharmonic, 0.2, 7))

    jacobian = torch.autograd.functional.jacobian(end, torch.randn(4, generator=seeded(), dtype=torch.float64))
    assert float(torch.linalg.det(jacobian)) == pytest.approx(1.0, rel=1e-12)


def test_leapfrog_is_of_second_order() -> None:
    def error(eps: float) -> float:
        q, p = torch.tensor([0.7, -0.4], dtype=torch.float64), torch.tensor([0.2, 0.5], dtype=torch.float64)
        energy = lambda q, p: float((q @ PRECISION @ q + p @ p) / 2 + (q**4).sum() / 4)  # noqa: E731
        return abs(energy(*leapfrog(q, p, anharmonic, eps, round(1 / eps))) - energy(q, p))

    assert error(0.01) / error(0.005) == pytest.approx(4, rel=0.1)


def test_divergences_are_counted_and_rejected() -> None:
    """A funnel-like wall: outside a disc the density is zero, and its logarithm not a number."""

    def walled(x: Tensor) -> Tensor:
        return torch.log(1 - x.square().sum(-1))

    chains = HMC(step_size=2.0, leapfrog_steps=2, warmup=0).sample(walled, torch.zeros(4, 2), 200, seeded())
    assert int(chains.divergences.sum()) > 100
    assert bool(chains.draws.isfinite().all())
    assert float(chains.draws.square().sum(-1).max()) < 1
    steep = HMC(step_size=50.0, leapfrog_steps=5, warmup=0).sample(log_density, torch.ones(2, 2).double(), 20, seeded())
    assert steep.divergences.tolist() == [20, 20]  # finite, but the energy grows out of all proportion


def test_chains_do_not_depend_on_each_other() -> None:
    """A chain that stands at another place changes nothing in its neighbours."""
    sampler = HMC(warmup=50)
    init = torch.zeros(3, 2, dtype=torch.float64)
    moved = init.clone()
    moved[2] = 5
    a, b = (sampler.sample(log_density, start, 50, seeded()) for start in (init, moved))
    assert torch.equal(a.draws[:2], b.draws[:2])
    assert not torch.equal(a.draws[2], b.draws[2])


@pytest.mark.plain
def test_refuses_in_one_line() -> None:
    x = torch.zeros(2, 2)
    cases = [
        (lambda: MALA(step_size=0.0), "step_size must be positive and finite, got 0.0"),
        (lambda: HMC(leapfrog_steps=0), "leapfrog_steps must be at least 1, got 0"),
        (lambda: HMC(target_acceptance=1.0), r"target_acceptance must be in \(0, 1\), got 1.0"),
        (lambda: MALA(warmup=-1), "warmup must not be negative, got -1"),
        (lambda: MALA().sample(log_density, x.double(), 0, seeded()), "steps must be at least 1, got 0"),
        (lambda: HMC().sample(lambda x: x.sum(), x, 5, seeded()), r"log_density must return one number .* got \(\)"),
        (
            lambda: HMC().sample(lambda x: x.sum(-1).log(), x, 5, seeded()),
            "log_density and its gradient must be finite at init, got log density -inf in chain 0",
        ),
        (
            lambda: MALA().sample(log_density, torch.zeros(2), 5, seeded()),
            r"init must be floats of shape \(chains, dim\), got torch.float32 of shape \(2,\)",
        ),
        (lambda: leapfrog(x, x, anharmonic, 0.1, 0), "steps must be at least 1, got 0"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=f"^{message}$"):
            call()
