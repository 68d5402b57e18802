"""Flow matching at the exact velocity, and the velocity that takes a guided step by itself."""

import math

import pytest
import torch

from aleator.losses import distillation_target, flow_matching
from aleator.sde import FlowSDE, RewardGuidance

M, Q = 1.5, 0.25


@pytest.mark.parametrize("s", [0.05, 0.5, 1.0])
def test_at_the_exact_velocity_of_a_gaussian_it_is_its_floor(s):
    """q / ((1 − s)² q + s²) an element, within four standard errors of the mean of squares of normal numbers."""
    n, d = 50_000, 2
    generator = torch.Generator().manual_seed(0)
    x0 = M + math.sqrt(Q) * torch.randn(n, d, generator=generator, dtype=torch.float64)
    noise = torch.randn(n, d, generator=generator, dtype=torch.float64)
    variance = (1 - s) ** 2 * Q + s**2

    def velocity(x, s, cond):
        s = s[:, None]
        return -M + (s - (1 - s) * Q) / variance * (x - (1 - s) * M)

    loss = flow_matching(velocity, x0, noise, torch.full((n,), s, dtype=torch.float64))
    assert float(loss) == pytest.approx(Q / variance, rel=4 * math.sqrt(2 / (n * d)))


def test_the_condition_is_handed_on_and_half_precision_is_summed_in_float32():
    x0, noise = torch.ones(2, 3), torch.full((2, 3), 3.0)
    loss = flow_matching(lambda x, s, cond: (x * 0 + cond).bfloat16(), x0, noise, torch.tensor([0.0, 1.0]), 1.0)
    assert loss.dtype == torch.float32
    assert float(loss) == 1.0


@pytest.mark.parametrize("sde", [FlowSDE("constant", 0.25), FlowSDE("flow_grpo", 0.7)], ids=str)
@pytest.mark.parametrize("settings", [{"times_dt": True}, {"times_dt": False, "normalize": True}], ids=str)
def test_the_unguided_step_of_the_target_is_the_guided_step(sde, settings):
    generator = torch.Generator().manual_seed(0)
    x, v, g = torch.randn(3, 4, 5, generator=generator, dtype=torch.float64)
    s, s_next = torch.tensor([1.0, 0.7, 0.5, 0.1]).double(), torch.tensor([0.9, 0.5, 0.4, 0.0]).double()
    guided = sde.mean(x, v, s, s_next, g, RewardGuidance(scale=0.3, **settings))
    target = distillation_target(sde, v, guided - sde.mean(x, v, s, s_next), s, s_next)
    torch.testing.assert_close(sde.mean(x, target, s, s_next), guided, rtol=1e-12, atol=1e-12)
    if settings["times_dt"]:  # v − λ g / c
        c = 1 + sde.sigma(s, s_next) ** 2 * (1 - s) / (2 * s)
        torch.testing.assert_close(target, v - 0.3 * g / c[:, None], rtol=1e-9, atol=1e-9)


def test_the_target_has_no_gradient():
    v = torch.ones(2, 3, requires_grad=True)
    s = torch.full((2,), 0.5)
    assert not distillation_target(FlowSDE(), v, torch.ones(2, 3), s, s - 0.1).requires_grad


def zero(x, s, cond):
    return x * 0


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: flow_matching(zero, torch.zeros(2, 3), torch.zeros(2, 4), torch.zeros(2)),
            r"noise must have the shape of x0, \(2, 3\), got \(2, 4\)",
        ),
        (lambda: flow_matching(zero, torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(3)), "s must have one time for"),
        (
            lambda: flow_matching(zero, torch.zeros(1, 3), torch.zeros(1, 3), torch.tensor([1.5])),
            r"s must be in \[0, 1\], got 1.5",
        ),
        (
            lambda: flow_matching(lambda x, s, c: x[:, :2], torch.zeros(1, 3), torch.zeros(1, 3), torch.zeros(1)),
            r"velocity must return the shape of its states, \(1, 3\), got \(1, 2\)",
        ),
        (
            lambda: distillation_target(FlowSDE(), torch.zeros(1, 3), torch.zeros(1, 2), torch.ones(1), torch.zeros(1)),
            r"shift must have the shape of v, \(1, 3\), got \(1, 2\)",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)
