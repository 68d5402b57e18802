"""SGLD and its kin on Gaussians: the variances of theory, SGD in the limit, and chains that go on after a stop."""

import copy
import io
import math
import pickle

import numpy as np
import pytest
import torch
from scipy.linalg import solve_discrete_lyapunov
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import get_optimizer_state_dict, set_optimizer_state_dict

from aleator.sde import SGHMC, SGLD, CyclicalSteps, PreconditionedSGLD

SAMPLERS = [SGLD, PreconditionedSGLD, SGHMC]
CHAINS = 10_000


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def run(sampler, x: Tensor, scale: float, steps: int, noise_std: float = 0.0) -> Tensor:
    """Run many independent chains on N(0, s²), all coordinates of one tensor, with exact or noisy gradients."""
    noise = seeded(99)
    for _ in range(steps):
        x.grad = x.detach() / scale**2
        if noise_std:
            x.grad += noise_std * torch.randn(x.shape, generator=noise, dtype=x.dtype)
        sampler.step()
    return x.detach()


def assert_variance(x: Tensor, variance: float) -> None:
    """Within 5 standard errors of a variance over independent normal chains: false alarms below 1e-6."""
    x = x.detach()
    assert float(x.var()) == pytest.approx(variance, abs=5 * variance * math.sqrt(2 / x.numel()))


def zeros(n: int = CHAINS) -> nn.Parameter:
    return nn.Parameter(torch.zeros(n, dtype=torch.float64))


@pytest.mark.parametrize("h", [0.1, 1.0])
def test_sgld_with_exact_gradients_has_the_variance_of_ula(h: float) -> None:
    scale, x = 1.5, zeros()
    run(SGLD([x], lr=h, n_data=1, generator=seeded()), x, scale, 150 if h < 1 else 30)
    assert_variance(x, scale**2 / (1 - h / (2 * scale**2)))


def test_sgld_with_noisy_gradients_is_warmer_by_what_theory_says_and_the_correction_takes_it_out() -> None:
    scale, h, nu = 1.0, 0.05, 24.0
    plain, corrected = zeros(), zeros()
    run(SGLD([plain], lr=h, n_data=1, generator=seeded()), plain, scale, 150, math.sqrt(nu))
    assert_variance(plain, (2 * h + h**2 * nu) / (1 - (1 - h) ** 2))
    # ν̂ overstates ν by the factor 1 + h/s², so that the noise is h²ν·h/s² too small.
    sampler = SGLD([corrected], lr=h, n_data=1, noise_correction=True, generator=seeded())
    run(sampler, corrected, scale, 200, math.sqrt(nu))
    assert_variance(corrected, (2 * h - h**2 * nu * h) / (1 - (1 - h) ** 2))


def test_noise_correction_adds_no_noise_where_the_gradients_have_enough() -> None:
    """With h²ν > 2hT nothing is added: what remains is SGD with noisy gradients."""
    h, nu, x = 0.2, 40.0, zeros()
    run(SGLD([x], lr=h, n_data=1, noise_correction=True, generator=seeded()), x, 1.0, 200, math.sqrt(nu))
    assert_variance(x, h**2 * nu / (1 - (1 - h) ** 2))


def test_temperature_scales_the_variance() -> None:
    x = zeros()
    run(SGLD([x], lr=0.1, n_data=1, temperature=0.25, generator=seeded()), x, 1.0, 100)
    assert_variance(x, 0.25 / (1 - 0.05))


@pytest.mark.parametrize("friction", [0.1, 0.5, 1.0])
def test_sghmc_has_the_covariance_of_its_linear_recursion(friction: float) -> None:
    """(v, x) → A(v, x) + noise on N(0, s²): the stationary covariance solves Σ = AΣAᵀ + Q."""
    scale, eta, x = 1.3, 0.05, zeros()
    a = np.array([[1 - friction, -eta / scale**2], [1 - friction, 1 - eta / scale**2]])
    q = 2 * friction * eta * np.ones((2, 2))
    covariance = solve_discrete_lyapunov(a, q)
    sampler = SGHMC([x], lr=eta, n_data=1, friction=friction, generator=seeded())
    run(sampler, x, scale, 250 if friction < 1 else 150)
    assert_variance(x, covariance[1, 1])
    kinetic = covariance[0, 0] / eta
    assert float(sampler.kinetic_temperature()) == pytest.approx(kinetic, abs=5 * kinetic * math.sqrt(2 / CHAINS))


def test_preconditioned_sgld_follows_the_scale_of_each_coordinate() -> None:
    """Mini-batch gradients x/(Ns²) + τξ with τ = 5/(Ns): V is τ² and a little more, and a step is ULA's with η = hG.

    The scales are 0.1 and 0.01. V's 4 % come from x itself, which Γ would be needed for: hence 8 % of tolerance.
    """
    n, h, noise = 1000, 1e-5, seeded(9)
    scales = torch.tensor([0.1, 0.01], dtype=torch.float64)
    tau = 5 / (n * scales)
    x = nn.Parameter(scales * torch.randn(4000, 2, generator=noise, dtype=torch.float64))
    sampler = PreconditionedSGLD([x], lr=h, n_data=n, generator=seeded())
    for _ in range(400):
        x.grad = x.detach() / (n * scales**2) + tau * torch.randn(x.shape, generator=noise, dtype=x.dtype)
        sampler.step()
    eta = h / (tau**2 + 1 / (n * scales) ** 2).sqrt()
    expected = (2 * eta + eta**2 * (n * tau) ** 2) / (1 - (1 - eta / scales**2) ** 2)
    torch.testing.assert_close(x.detach().var(0), expected, rtol=0.08, atol=0)
    assert float(eta[0] / eta[1]) == pytest.approx(10, rel=1e-12)  # a hundred with the exact inverse curvature


def test_first_step_of_preconditioned_sgld_is_the_papers() -> None:
    x = nn.Parameter(torch.tensor([2.0, -1.0], dtype=torch.float64))
    x.grad = torch.tensor([0.5, -3.0], dtype=torch.float64)
    sampler = PreconditionedSGLD([x], lr=0.1, n_data=10, alpha=0.9, eps=0.01, weight_decay=0.2, generator=seeded(1))
    before, g = x.detach().clone(), x.grad
    size = 1 / (0.01 + (0.1 * g.square()).sqrt())
    noise = torch.randn(2, generator=seeded(1), dtype=torch.float64)
    sampler.step()
    expected = before - 0.1 * size * 10 * (g + 0.2 * before) + (0.2 * size).sqrt() * noise
    torch.testing.assert_close(x.detach(), expected, rtol=1e-13, atol=0)


def network() -> nn.Module:
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    fixed = seeded(5)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=fixed))
    return model


def fit(model: nn.Module, optimizer: torch.optim.Optimizer, steps: int, start: int = 0) -> list[Tensor]:
    for k in range(start, start + steps):
        batch = torch.randn(8, 3, generator=seeded(100 + k))
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    return [p.detach().clone() for p in model.parameters()]


@pytest.fixture(autouse=True)
def _global_generator_stays():
    state = torch.random.get_rng_state()
    yield
    torch.random.set_rng_state(state)  # nn.Linear's initialisation draws from it


def test_cold_sgld_is_sgd_bit_for_bit_and_draws_nothing() -> None:
    ours, theirs = network(), network()
    generator = seeded()
    sampler = SGLD(ours.parameters(), lr=2.0**-10, n_data=64, temperature=0, weight_decay=0.5, generator=generator)
    sgd = torch.optim.SGD(theirs.parameters(), lr=2.0**-4, weight_decay=0.5)
    for a, b in zip(fit(ours, sampler, 10), fit(theirs, sgd, 10), strict=True):
        assert torch.equal(a, b)  # powers of two: N·h is exact
    assert torch.equal(generator.get_state(), seeded().get_state())


def test_cold_sghmc_is_sgd_with_momentum() -> None:
    ours, theirs = network(), network()
    sampler = SGHMC(ours.parameters(), lr=1e-3, n_data=50, temperature=0, friction=0.1, generator=seeded())
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.05, momentum=0.9)
    for a, b in zip(fit(ours, sampler, 20), fit(theirs, sgd, 20), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


def test_weight_decay_is_a_gaussian_prior_of_variance_one_over_n_lambda() -> None:
    """Without data the chain samples the prior."""
    x, n, decay, h = zeros(), 50, 0.01, 0.1
    sampler = SGLD([x], lr=h, n_data=n, weight_decay=decay, generator=seeded())
    for _ in range(150):
        x.grad = torch.zeros_like(x)
        sampler.step()
    variance = 1 / (n * decay)
    assert_variance(x.detach(), variance / (1 - h / (2 * variance)))


def options(kind) -> dict:
    return {SGLD: {"noise_correction": True}, PreconditionedSGLD: {}, SGHMC: {"friction": 0.2}}[kind]


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_chain_that_was_saved_goes_on_bit_for_bit(kind) -> None:
    whole = network()
    expected = fit(whole, kind(whole.named_parameters(), lr=1e-4, n_data=20, generator=seeded(), **options(kind)), 12)

    model = network()
    sampler = kind(model.named_parameters(), lr=1e-4, n_data=20, generator=seeded(), **options(kind))
    fit(model, sampler, 5)
    file = io.BytesIO()
    torch.save({"model": model.state_dict(), "sampler": sampler.state_dict()}, file)
    saved = torch.load(io.BytesIO(file.getvalue()), weights_only=True)
    resumed = network()
    resumed.load_state_dict(saved["model"])
    again = kind(resumed.named_parameters(), lr=0.5, n_data=1, generator=seeded(7), **options(kind))
    again.load_state_dict(saved["sampler"])
    for a, b in zip(fit(resumed, again, 7, start=5), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_torchs_distributed_state_goes_on_too_with_the_generator_beside_it(kind) -> None:
    def chain(generator: torch.Generator):
        model = network()
        return model, kind(model.parameters(), lr=1e-4, n_data=20, generator=generator, **options(kind))

    expected = fit(*chain(seeded()), 9)
    model, sampler = chain(seeded())
    fit(model, sampler, 5)
    state, weights = get_optimizer_state_dict(model, sampler), copy.deepcopy(model.state_dict())
    generator = seeded(7)
    resumed, again = chain(generator)
    resumed.load_state_dict(weights)
    set_optimizer_state_dict(resumed, again, state)
    generator.set_state(sampler.generator.get_state())
    for a, b in zip(fit(resumed, again, 4, start=5), expected, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_copy_and_a_pickle_have_a_generator_of_their_own(kind) -> None:
    model = network()
    sampler = kind(model.parameters(), lr=1e-4, n_data=20, generator=seeded(), **options(kind))
    fit(model, sampler, 3)
    copies = [copy.deepcopy((model, sampler)), pickle.loads(pickle.dumps((model, sampler)))]
    expected = fit(model, sampler, 4)
    for other_model, other in copies:
        assert other.generator is not sampler.generator
        for a, b in zip(fit(other_model, other, 4), expected, strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_parameters_without_gradients_stay_and_groups_have_their_own_steps(kind) -> None:
    frozen, slow, fast = (nn.Parameter(torch.ones(100)) for _ in range(3))
    double = nn.Parameter(torch.ones(100, dtype=torch.float64))
    groups = [{"params": [frozen, slow, double], "lr": 1e-6}, {"params": [fast]}]
    sampler = kind(groups, lr=0.01, n_data=1, generator=seeded())
    for p in (slow, fast, double):
        p.grad = torch.ones_like(p)
    sampler.step()
    assert torch.equal(frozen, torch.ones(100))
    assert 0 < float((slow - 1).detach().abs().mean()) < 0.1 * float((fast - 1).detach().abs().mean())
    assert float((double - 1).detach().abs().mean()) > 0


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_closure_is_called_with_gradients_on(kind) -> None:
    x = nn.Parameter(torch.ones(3))
    sampler = kind([x], lr=1e-3, n_data=1, generator=seeded())

    def closure() -> Tensor:
        sampler.zero_grad()
        loss = x.square().sum()
        loss.backward()
        return loss

    assert float(sampler.step(closure).detach()) == 3.0
    assert x.grad is not None


def test_cyclical_steps_are_the_papers_and_come_back() -> None:
    x = nn.Parameter(torch.zeros(1))
    sampler = SGLD([x], lr=0.8, n_data=1, generator=seeded())
    schedule = CyclicalSteps(sampler, period=4)
    seen = []
    for k in range(9):
        seen.append(sampler.param_groups[0]["lr"])
        assert schedule.phase == (k % 4) / 4
        x.grad = torch.zeros(1)
        sampler.step()
        schedule.step()
    expected = [0.4 * (1 + math.cos(math.pi * (k % 4) / 4)) for k in range(9)]
    assert seen == pytest.approx(expected, rel=1e-14)
    assert seen[0] == seen[4] == seen[8] == 0.8
    assert min(seen) > 0

    resumed = CyclicalSteps(SGLD([x], lr=0.8, n_data=1, generator=seeded()), period=2)
    resumed.load_state_dict(schedule.state_dict())
    assert (resumed.period, resumed.phase) == (4, 0.25)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("kind", "given", "message"),
    [
        (SGLD, {"lr": -1.0}, "lr must not be negative and must be finite, got -1.0"),
        (SGLD, {"lr": float("nan")}, "lr must not be negative and must be finite, got nan"),
        (SGLD, {"n_data": 0}, "n_data must be the number of training examples, or 1 where the loss is U, got 0"),
        (SGLD, {"temperature": -0.1}, "temperature must not be negative and must be finite, got -0.1"),
        (SGLD, {"weight_decay": -0.1}, "weight_decay must not be negative and must be finite, got -0.1"),
        (PreconditionedSGLD, {"alpha": 1.0}, r"alpha must be in \[0, 1\), got 1.0"),
        (PreconditionedSGLD, {"eps": 0.0}, "eps must be positive, got 0.0"),
        (SGHMC, {"friction": 0.0}, r"friction must be in \(0, 1\], got 0.0"),
        (SGHMC, {"friction": 1.5}, r"friction must be in \(0, 1\], got 1.5"),
    ],
)
def test_refuses_in_one_line_for_a_group_too(kind, given: dict, message: str) -> None:
    fine = {"lr": 0.1, "n_data": 10, "generator": seeded()}
    with pytest.raises(ValueError, match=f"^{message}$"):
        kind([nn.Parameter(torch.zeros(1))], **{**fine, **given})
    with pytest.raises(ValueError, match=f"^{message}$"):
        kind([{"params": [nn.Parameter(torch.zeros(1))], **given}], **fine)


@pytest.mark.plain
def test_refuses_short_numbers_sparse_gradients_and_a_missing_size_of_the_data() -> None:
    with pytest.raises(ValueError, match=r"parameters must be float32 or float64, got torch\.bfloat16"):
        SGLD([nn.Parameter(torch.zeros(1, dtype=torch.bfloat16))], lr=0.1, n_data=1, generator=seeded())
    with pytest.raises(TypeError, match="n_data"):
        SGLD([nn.Parameter(torch.zeros(1))], lr=0.1, generator=seeded())  # type: ignore[call-arg]
    table = nn.Embedding.from_pretrained(torch.zeros(3, 2), freeze=False, sparse=True)
    sampler = SGLD(table.parameters(), lr=0.1, n_data=1, generator=seeded())
    table(torch.tensor([1])).sum().backward()
    with pytest.raises(RuntimeError, match="gradients must be dense, got a sparse one"):
        sampler.step()
    with pytest.raises(ValueError, match="period must be a whole number of at least 1, got 0"):
        CyclicalSteps(sampler, period=0)
