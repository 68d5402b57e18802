"""The critic's deviation is the spread of what came: on bandits whose spread is known."""

import pytest
import torch

from aleator.rl import STAC
from tests.rl.spaces import box


def learned(std, updates):
    """Train a critic on rewards N(x·a, std(x)²) with γ = 0, and return its mean and deviation on a grid."""
    agent = STAC(
        box(1),
        box(1),
        beta=0.0,
        gamma=0.0,
        lr=1e-2,
        alpha=0.0,
        net_arch=(24, 24),
        actor_dropout=0.0,
        critic_dropout=0.0,
    )
    draw = torch.Generator().manual_seed(0)
    for update in range(updates):
        agent.learner.critic_optimizer.param_groups[0]["lr"] = 1e-2 * (1 - update / updates)
        x, a = (torch.rand(256, 1, generator=draw) * 2 - 1 for _ in range(2))
        reward = (x * a + std(x) * torch.randn(256, 1, generator=draw)).squeeze(1)
        agent.update(
            {"obs": x, "action": a, "reward": reward, "next_obs": x, "terminated": torch.zeros(256, dtype=torch.bool)}
        )
    x, a = torch.linspace(-0.8, 0.8, 9).unsqueeze(1), torch.full((9, 1), 0.5)
    return x, *agent.value(x, a)


@pytest.mark.plain  # a loop, whose functions other tests check
def test_it_learns_the_spread_of_a_noisy_bandit():
    x, mean, std = learned(lambda x: 0.5 + 0.3 * x, 700)
    expected = (0.5 + 0.3 * x).squeeze(1)
    assert ((std - expected).abs() / expected).max() < 0.1
    torch.testing.assert_close(mean, 0.5 * x.squeeze(1), atol=0.1, rtol=0)


@pytest.mark.plain  # a loop, whose functions other tests check
def test_it_finds_that_a_bandit_has_none():
    assert learned(lambda x: 0.0, 300)[2].max() < 0.05
