"""Stochastic kernels of flows: marginals, densities, guidance, and what they refuse."""

import math

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from aleator.losses import distillation_target
from aleator.random import ItemGenerator
from aleator.sde import FlowSDE, RewardGuidance, shifted_sigmas

M, Q = 1.5, 0.25  # data of the exact flow: mean and variance
KERNELS = [FlowSDE("none"), FlowSDE("constant", 0.25), FlowSDE("constant", 1.0), FlowSDE("flow_grpo", 0.7)]
NOISY = KERNELS[1:]


def exact_velocity(x, s):
    variance = (1 - s) ** 2 * Q + s**2
    return -M + (s - (1 - s) * Q) / variance * (x - (1 - s) * M)


def moments(sde, steps, guidance=None):
    """Mean and variance at the end, from N(0, 1): every step is affine and adds independent noise."""
    grid = shifted_sigmas(steps, dtype=torch.float64)
    s, s_next = grid[:-1].repeat(2), grid[1:].repeat(2)
    x = torch.tensor([0.0, 1.0], dtype=torch.float64).repeat_interleave(steps)
    gradient = None if guidance is None else torch.ones_like(x)
    at_0, at_1 = sde.mean(x, exact_velocity(x, s), s, s_next, gradient, guidance).chunk(2)
    mean, variance = 0.0, 1.0
    for moved, kept, std in zip(at_0.tolist(), (at_1 - at_0).tolist(), sde.std(s, s_next).tolist(), strict=False):
        mean, variance = moved + kept * mean, kept**2 * variance + std**2
    return mean, variance


def case(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for _ in range(2)]


@pytest.mark.parametrize("sde", KERNELS, ids=str)
def test_a_fine_grid_keeps_the_marginal_whatever_the_noise(sde):
    mean, variance = moments(sde, 1000)
    assert mean == pytest.approx(M, abs=5e-4)
    assert 0.2492 < variance < 0.2510


@pytest.mark.parametrize(("sde", "variance"), [(KERNELS[0], 0.2076), (KERNELS[1], 0.2121), (KERNELS[3], 0.2385)])
def test_sixteen_steps_lose_the_variance_that_eulers_method_does(sde, variance):
    assert moments(sde, 16)[1] == pytest.approx(variance, abs=5e-5)


@pytest.mark.parametrize(
    ("noise", "eta", "mean"),
    [
        ("constant", 0.25, 1.525),
        ("constant", 0.5, 1.587),
        ("constant", 1.0, 1.701),
        ("flow_grpo", 0.3, 1.623),
        ("flow_grpo", 0.7, 1.833),
    ],
)
def test_a_constant_gradient_moves_the_end_as_far_as_the_noise_makes_room(noise, eta, mean):
    assert moments(FlowSDE(noise, eta), 200, RewardGuidance(beta=1.0))[0] == pytest.approx(mean, abs=5e-4)


@pytest.mark.parametrize("sde", NOISY, ids=str)
def test_the_mean_is_that_of_the_score(sde):
    """x − h [v − σ²/2 ∇log p], the reverse of the equation whose marginals are the flow's."""
    x, v = case(5, 3)
    s = torch.tensor([1.0, 0.9, 0.5, 0.25, 0.01], dtype=torch.float64)
    s_next = s - torch.tensor([0.2, 0.1, 0.1, 0.25, 0.005], dtype=torch.float64)
    variance = sde.sigma(s, s_next)[:, None] ** 2
    score = -(x + (1 - s)[:, None] * v) / s[:, None]
    expected = x - (s - s_next)[:, None] * (v - variance / 2 * score)
    torch.testing.assert_close(sde.mean(x, v, s, s_next), expected, rtol=1e-12, atol=1e-12)


def test_constant_noise_is_the_step_of_dancegrpo():
    x, v = case(6, 2)
    s, s_next = torch.linspace(1, 0.5, 6).double(), torch.linspace(0.9, 0.4, 6).double()
    sde = FlowSDE("constant", 0.3)
    # As its program has it: the guessed data, the score of their noise, half of eta² of it.
    sigma, by = s[:, None], (s_next - s)[:, None]
    guess = x - sigma * v
    mean = x + by * v + -0.5 * 0.3**2 * (-(x - guess * (1 - sigma)) / sigma**2) * by
    torch.testing.assert_close(sde.mean(x, v, s, s_next), mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sde.std(s, s_next), 0.3 * torch.sqrt(s - s_next), rtol=1e-12, atol=0)


def test_flow_grpo_noise_is_its_step_and_takes_the_next_time_at_the_beginning():
    x, v = case(3, 2)
    s, s_next = torch.tensor([1.0, 0.9, 0.2]).double(), torch.tensor([0.9, 0.7, 0.0]).double()
    sigma, by = s[:, None], (s_next - s)[:, None]
    level = torch.sqrt(sigma / (1 - torch.where(sigma == 1, s_next[0], sigma))) * 0.7
    mean = x * (1 + level**2 / (2 * sigma) * by) + v * (1 + level**2 * (1 - sigma) / (2 * sigma)) * by
    sde = FlowSDE("flow_grpo", 0.7)
    torch.testing.assert_close(sde.mean(x, v, s, s_next), mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(sde.std(s, s_next), (level * torch.sqrt(-by))[:, 0], rtol=1e-12, atol=0)


def test_a_scale_of_zero_and_a_gradient_of_zero_move_nothing():
    x, v = case(2, 3)
    s, s_next = torch.full((2,), 0.5).double(), torch.full((2,), 0.4).double()
    for sde in KERNELS:
        plain = sde.mean(x, v, s, s_next)
        assert torch.equal(sde.mean(x, v, s, s_next, x, RewardGuidance(scale=0.0)), plain)
        for normalize in (False, True):
            guidance = RewardGuidance(scale=1.0, normalize=normalize)
            assert torch.equal(sde.mean(x, v, s, s_next, torch.zeros_like(x), guidance), plain)


@pytest.mark.parametrize("sde", NOISY, ids=str)
def test_beta_is_a_scale_of_half_the_variance_of_the_noise_and_the_step_may_be_left_out(sde):
    x, v = case(2, 3)
    s, s_next = torch.tensor([0.8, 0.5]).double(), torch.tensor([0.6, 0.2]).double()
    variance, h = sde.sigma(s, s_next) ** 2, s - s_next
    plain = sde.mean(x, v, s, s_next)

    def shift(**settings):
        return sde.mean(x, v, s, s_next, v, RewardGuidance(**settings)) - plain

    torch.testing.assert_close(shift(beta=3.0), (variance * h / 6)[:, None] * v, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(shift(scale=0.3), 0.3 * h[:, None] * v, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(shift(scale=0.3, times_dt=False), 0.3 * v, rtol=1e-9, atol=1e-12)
    norms = shift(scale=0.3, times_dt=False, normalize=True).norm(dim=1)  # of each sample by itself
    torch.testing.assert_close(norms, torch.full((2,), 0.3).double(), rtol=1e-6, atol=0)


def test_guidance_acts_in_its_window_every_so_many_steps():
    assert [k for k in range(9) if RewardGuidance(scale=1.0, start=2, end=8, interval=3).acts(k)] == [2, 5]
    assert not any(RewardGuidance(scale=0.0).acts(k) for k in range(3))


@pytest.mark.parametrize("sde", NOISY, ids=str)
def test_log_probabilities_are_those_of_normal_distributions(sde):
    x_next, mean = case(4, 3, 2, dtype=torch.float32)
    s, s_next = torch.tensor([1.0, 0.7, 0.5, 0.1]), torch.tensor([0.9, 0.5, 0.4, 0.0])
    mean = x_next + sde.std(s, s_next)[:, None, None] * mean
    each = Normal(mean.double(), sde.std(s, s_next).double()[:, None, None]).log_prob(x_next.double()).flatten(1)
    torch.testing.assert_close(sde.log_prob(x_next, mean, s, s_next).double(), each.mean(1), rtol=1e-5, atol=1e-6)
    whole = sde.log_prob(x_next, mean, s, s_next, reduce="sum")
    torch.testing.assert_close(whole.double(), each.sum(1), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("sde", NOISY, ids=str)
def test_the_divergence_of_two_velocities_is_that_of_their_normal_distributions(sde):
    v, v_ref = case(4, 3)
    x = v + v_ref
    s, s_next = torch.tensor([1.0, 0.7, 0.5, 0.1]).double(), torch.tensor([0.9, 0.5, 0.4, 0.0]).double()
    std = sde.std(s, s_next)[:, None]
    ours, reference = (Normal(sde.mean(x, each, s, s_next), std) for each in (v, v_ref))
    torch.testing.assert_close(sde.kl(v, v_ref, s, s_next), kl_divergence(ours, reference).mean(1), rtol=1e-9, atol=0)


def test_no_samples_have_no_steps_and_no_densities():
    x, s = torch.zeros(0, 3, 2), torch.zeros(0)
    guidance = RewardGuidance(scale=1.0, normalize=True)
    step = FlowSDE().step(x, x, s, s, generator=torch.Generator(), reward_grad=x, guidance=guidance)
    assert step.x.shape == (0, 3, 2)
    assert FlowSDE().log_prob(x, x, s, s).shape == FlowSDE().kl(x, x, s, s).shape == (0,)


def test_the_gradient_of_a_log_probability_is_the_difference_quotient():
    sde = FlowSDE("constant", 0.25)
    x, v = case(1, 4)
    s, s_next = torch.tensor([0.5]).double(), torch.tensor([0.4]).double()
    x_next = sde.step(x, v, s, s_next, generator=torch.Generator().manual_seed(1)).x

    def log_prob(v):
        return sde.log_prob(x_next, sde.mean(x, v, s, s_next), s, s_next).sum()

    assert torch.autograd.gradcheck(log_prob, v.requires_grad_(), eps=1e-6, atol=1e-6)


@pytest.mark.parametrize("sde", NOISY, ids=str)
def test_a_step_is_its_mean_and_noise_of_its_deviation(sde):
    x, v = case(2000, 20)
    s, s_next = torch.full((2000,), 0.6).double(), torch.full((2000,), 0.5).double()
    step = sde.step(x, v, s, s_next, generator=torch.Generator().manual_seed(3))
    assert torch.equal(step.mean, sde.mean(x, v, s, s_next))
    z = (step.x - step.mean) / sde.std(s, s_next)[:, None]
    assert float(z.mean()) == pytest.approx(0, abs=4 / 200)  # four standard errors
    assert float(z.var()) == pytest.approx(1, abs=4 * math.sqrt(2) / 200)


def test_the_ode_draws_nothing_and_items_have_noise_of_their_own():
    x, v = case(4, 3, dtype=torch.float32)
    s, s_next = torch.full((4,), 0.6), torch.full((4,), 0.5)
    ode = FlowSDE("none").step(x, v, s, s_next)
    torch.testing.assert_close(ode.x, x - 0.1 * v)
    whole = FlowSDE().step(x, v, s, s_next, generator=ItemGenerator(7, range(4))).x
    part = FlowSDE().step(x[2:], v[2:], s[2:], s_next[2:], generator=ItemGenerator(7, range(2, 4))).x
    assert torch.equal(whole[2:], part)


def test_half_precision_is_computed_in_float32():
    x, v = case(2, 3)
    s, s_next = torch.full((2,), 0.5), torch.full((2,), 0.4)
    sde = FlowSDE()
    low = v.bfloat16()
    mean = sde.mean(x.float(), low, s, s_next)
    assert mean.dtype == torch.float32
    assert torch.equal(mean, sde.mean(x.float(), low.float(), s, s_next))
    assert sde.log_prob(x.bfloat16(), mean, s, s_next).dtype == torch.float32
    assert sde.kl(low, low + 1, s, s_next).dtype == torch.float32
    assert sde.mean(x, low, s, s_next).dtype == torch.float64


@pytest.mark.parametrize("sde", NOISY, ids=str)
def test_a_state_in_float64_is_computed_in_float64_also_at_times_in_float32(sde):
    x, v = case(3, 4)
    s, s_next = torch.tensor([0.9, 0.7, 0.3]), torch.tensor([0.8, 0.6, 0.1])
    for low, high in (
        (each(s, s_next), each(s.double(), s_next.double()))
        for each in (
            lambda s, s_next: sde.mean(x, v, s, s_next, v, RewardGuidance(beta=0.5)),
            lambda s, s_next: sde.log_prob(x, x + 0.1 * v, s, s_next),
            lambda s, s_next: sde.kl(v, x, s, s_next),
            lambda s, s_next: distillation_target(sde, v, x, s, s_next),
            lambda s, s_next: sde.step(x, v, s, s_next, generator=torch.Generator().manual_seed(0)).x,
        )
    ):
        torch.testing.assert_close(low, high, rtol=1e-14, atol=1e-14)


def test_a_shifted_grid_is_that_of_the_training_of_euphonium():
    grid = shifted_sigmas(16, 5.0, dtype=torch.float64)
    assert grid[[0, 1, 2, 12, 15, 16]].tolist() == pytest.approx([1, 75 / 76, 70 / 72, 0.625, 0.25, 0])
    assert shifted_sigmas(4).tolist() == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.plain
def test_step_and_log_probability_compile_to_one_graph():
    sde = FlowSDE("flow_grpo", 0.7)
    torch.compiler.reset()  # after eight compilations of a function torch would not compile it again, and not say so
    x, v = case(3, 4, dtype=torch.float32)
    s, s_next = torch.tensor([1.0, 0.5, 0.2]), torch.tensor([0.9, 0.4, 0.0])
    drawn = torch.zeros(3, 4)

    def work(x, v, s, s_next):
        step = sde.step(
            x,
            v,
            s,
            s_next,
            generator=torch.default_generator,
            noise=lambda like, state, generator: drawn,
            reward_grad=v,
            guidance=RewardGuidance(beta=1.0),
        )
        return step.x, sde.log_prob(step.x, step.mean, s, s_next)

    compiled = torch.compile(work, backend="aot_eager", fullgraph=True)
    for found, expected in zip(compiled(x, v, s, s_next), work(x, v, s, s_next), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


def half(**changes):
    given = {
        "x": torch.zeros(2, 3),
        "v": torch.zeros(2, 3),
        "s": torch.full((2,), 0.5),
        "s_next": torch.full((2,), 0.4),
    }
    return {**given, **changes}


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: FlowSDE("white"), "noise must be constant, flow_grpo or none, got 'white'"),
        (lambda: FlowSDE(eta=-0.1), "eta must be positive and finite .*, got -0.1"),
        (lambda: FlowSDE(eta=math.nan), "eta must be positive and finite .*, got nan"),
        (lambda: RewardGuidance(), "either scale or beta must be given, got neither"),
        (lambda: RewardGuidance(scale=1.0, beta=1.0), "either scale or beta must be given, got both"),
        (lambda: RewardGuidance(scale=-1.0), "scale must not be negative and must be finite, got -1.0"),
        (lambda: RewardGuidance(beta=0.0), "beta must be positive and finite, got 0.0"),
        (lambda: RewardGuidance(scale=1.0, start=-1), "start must not be negative, got -1"),
        (lambda: RewardGuidance(scale=1.0, start=3, end=2), "end must be at least start = 3, got 2"),
        (lambda: RewardGuidance(scale=1.0, interval=0), "interval must be at least 1, got 0"),
        (lambda: shifted_sigmas(0), "steps must be at least 1, got 0"),
        (lambda: shifted_sigmas(4, 0.0), "shift must be positive and finite, got 0.0"),
        (
            lambda: FlowSDE().mean(**half(s_next=torch.full((2,), 0.5))),
            "1 >= s > s_next >= 0, got s=0.5 and s_next=0.5",
        ),
        (lambda: FlowSDE().mean(**half(s=torch.full((2,), 1.5))), "1 >= s > s_next >= 0, got s=1.5"),
        (lambda: FlowSDE().mean(**half(s_next=torch.tensor([0.1, math.nan]))), "got s=0.5 and s_next=nan"),
        (lambda: FlowSDE().mean(**half(v=torch.zeros(2, 4))), r"v must have the shape .*\(2, 3\), got \(2, 4\)"),
        (lambda: FlowSDE().mean(**half(s=torch.ones(3), s_next=torch.zeros(3))), "s must have one time for each of 2"),
        (lambda: FlowSDE().mean(**half(s=torch.ones(2, 1))), r"s and s_next must have one shape \[batch\], got"),
        (lambda: FlowSDE().mean(**half(), reward_grad=torch.zeros(2, 3)), "must be given together, got no guidance"),
        (
            lambda: FlowSDE().mean(**half(), reward_grad=torch.zeros(2, 2), guidance=RewardGuidance(scale=1.0)),
            r"reward_grad must have the shape of the state, \(2, 3\), got \(2, 2\)",
        ),
        (lambda: FlowSDE().step(**half()), "generator must be given where noise is constant, got None"),
        (
            lambda: FlowSDE("none").log_prob(*[torch.zeros(2, 3)] * 2, torch.ones(2), torch.zeros(2)),
            "noise must be constant or flow_grpo where a log-probability is asked for, got none",
        ),
        (
            lambda: FlowSDE().log_prob(*[torch.zeros(2, 3)] * 2, torch.ones(2), torch.zeros(2), reduce="max"),
            "reduce must be mean or sum, got 'max'",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)
