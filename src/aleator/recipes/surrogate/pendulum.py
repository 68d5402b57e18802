"""Gymnasium's pendulum, to be swung up and held, with an expert that comes with this package.

The expert is a network of two hidden layers that was trained on a controller's answers, energy shaping below and a
linear regulator near the top; `experiments/experts/pendulum.py` trained it and says how.
"""

from __future__ import annotations

import math
from importlib import resources
from typing import Any

import numpy as np
import torch
from safetensors.torch import load
from torch import Tensor, nn

from aleator.recipes.surrogate.system import Policy

TORQUE = 2.0
EPISODE = 200
# Seeds of the episodes that a policy is measured on.
MEASURED = range(1_000_000, 1_000_010)


class Pendulum:
    """Five episodes of 200 steps are a round. Actions are cut to the torque that the pendulum takes.

    Args:
        rounds: makes the seeds of the episodes.
        network: the expert; by default the one in this package.

    Raises:
        ImportError: if gymnasium is not installed.
    """

    observations, actions = 3, 1
    trajectories = 5

    def __init__(self, rounds: torch.Generator, network: nn.Module | None = None) -> None:
        self.generator = rounds
        self.expert = network or expert()
        self.environments = [_environment() for _ in range(max(self.trajectories, len(MEASURED)))]

    def collect(self, policy: Policy) -> tuple[Tensor, Tensor]:
        """Act in a round; see `aleator.recipes.surrogate.imitation.System`."""
        seeds = torch.randint(2**31, (self.trajectories,), generator=self.generator).tolist()
        seen, _ = self.episodes(policy, seeds)
        return seen, self.ask(seen)

    def measure(self, policy: Policy) -> dict[str, float]:
        """Return the mean return of ten episodes, of the policy and of the expert."""
        return {
            "episode_return": self.episodes(policy, MEASURED)[1],
            "expert_return": self.episodes(self.ask, MEASURED)[1],
        }

    @torch.no_grad()
    def ask(self, observed: Tensor) -> Tensor:
        """Return what the expert does."""
        answers: Tensor = self.expert(observed.float()).double()
        return answers

    def episodes(self, policy: Policy, seeds: Any) -> tuple[Tensor, float]:
        """Return what was observed in episodes of these seeds, step after step, and the mean return."""
        environments = self.environments[: len(seeds)]
        now = [e.reset(seed=seed)[0] for e, seed in zip(environments, seeds, strict=True)]
        seen, total = [], 0.0
        for _ in range(EPISODE):
            seen.append(torch.from_numpy(np.stack(now)).double())
            actions = policy(seen[-1]).clamp(-TORQUE, TORQUE).numpy()
            steps = [e.step(action.astype(np.float32)) for e, action in zip(environments, actions, strict=True)]
            now = [step[0] for step in steps]
            total += math.fsum(float(step[1]) for step in steps)
        return torch.cat(seen), total / len(seeds)


class Expert(nn.Module):
    """Two hidden layers of 64, and a torque within bounds."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(3, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 1), nn.Tanh()
        )

    def forward(self, observed: Tensor) -> Tensor:
        """Return torques [n, 1] from cosine and sine of the angle and its speed [n, 3]."""
        return TORQUE * self.layers(observed)  # type: ignore[no-any-return]


def expert() -> Expert:
    """Return the expert of this package."""
    weights = load(resources.files("aleator.recipes.surrogate").joinpath("pendulum.safetensors").read_bytes())
    with torch.device("meta"):  # draws no initial weights
        network = Expert()
    network.load_state_dict(weights, assign=True)
    return network.eval()


def _environment() -> Any:
    try:
        import gymnasium
    except ImportError:
        raise ImportError("problem gymnasium:Pendulum-v1 needs the extra 'rl': pip install 'aleator[rl]'") from None
    return gymnasium.make("Pendulum-v1").unwrapped
