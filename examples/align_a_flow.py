"""Align a flow with a reward, in your own loop: eight spots on a circle, of which one shall be drawn.

python examples/align_a_flow.py
"""

import math

import torch
from torch import nn

from aleator.losses import flow_matching
from aleator.sde import FlowSDE, RewardGuidance, shifted_sigmas
from aleator.video import DualRewardGRPO, group_noise, rollout, train_process_reward

generator = torch.Generator().manual_seed(0)


class Net(nn.Module):
    """A perceptron of state and time: a velocity, or one number."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, outputs))

    def forward(self, x: torch.Tensor, s: torch.Tensor, cond: object = None) -> torch.Tensor:
        """Return velocities, or process rewards."""
        out: torch.Tensor = self.layers(torch.cat([x, s[:, None]], 1))
        return out if out.shape[1] == 2 else out[:, 0]


def spots(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw points on the circle, and which spot each belongs to."""
    which = torch.randint(8, (count,), generator=generator)
    angles = which * math.pi / 4
    at = 2 * torch.stack([angles.cos(), angles.sin()], 1)
    return at + 0.15 * torch.randn(count, 2, generator=generator), which


def reward(x: torch.Tensor) -> torch.Tensor:
    """Return 1 for points that lie in the direction of the first spot."""
    return (torch.atan2(x[:, 1], x[:, 0]).abs() < math.pi / 8).float()


torch.manual_seed(0)
policy, prm = Net(2), Net(1)

# A flow that draws all spots alike, and a process reward: how likely is a noisy point to end at the first?
optimizer = torch.optim.Adam(policy.parameters(), lr=3e-3)
for _ in range(800):
    x0 = spots(256)[0]
    loss = flow_matching(policy, x0, torch.randn(256, 2, generator=generator), torch.rand(256, generator=generator))
    optimizer.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
judged, which = spots(4096)
train_process_reward(prm, judged, (which == 0).float(), generator=generator, steps=400)
prm.requires_grad_(False)

# Alignment: rollouts that follow the process reward, advantages within groups, and the guidance distilled.
sde, sigmas = FlowSDE(eta=0.5), shifted_sigmas(12)
guidance = RewardGuidance(beta=1.0)
objective = DualRewardGRPO(group_size=8, distill_coef=1.0)
optimizer = torch.optim.AdamW(policy.parameters(), lr=1e-3)


def share() -> float:
    """Return the share of rewarded points among 1 000 that the flow draws by itself."""
    noise = torch.randn(1000, 2, generator=generator)
    return float(reward(rollout(policy, noise, sigmas, FlowSDE("none")).x0_pred).mean())


print(f"before: {share():.0%} of the points are rewarded")
for _ in range(25):
    noise = group_noise(torch.empty(128, 2), 8, generator=generator)
    trajectory = rollout(policy, noise, sigmas, sde, prm=prm, guidance=guidance, generator=generator)
    for update in objective.updates(policy, trajectory, reward(trajectory.x0_pred), count=2, piece_size=2048):
        optimizer.zero_grad()
        update.backward(policy)
        nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
    if share() > 0.5:  # beyond a threshold samples leave the data, though all are rewarded
        break
print(f"after: {share():.0%}")
