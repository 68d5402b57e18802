"""The recipe ``control`` on RiskyPointMass-v0, and afterwards 500 ways from the far corner, drawn from the policy.

How near they come to the middle of the risky circle, how long they stay in it, and what they cost, is the test of a
method that shuns risk. The ways are simulated side by side by the environment's own rules.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from aleator.experiment import Split
from aleator.random import Streams
from aleator.recipes.control import Control
from aleator.recipes.control.task import ControlTask
from aleator.rl import Agent, risky_pointmass_step, squashed_gaussian

if TYPE_CHECKING:
    from accelerate import Accelerator

WAYS, STEPS, RADIUS = 500, 200, 0.3


@dataclass(frozen=True)
class FarCorner(Control):
    """Learn to cross the square, past a circle where steps may cost ten."""

    env: str = "RiskyPointMass-v0"
    """The environment."""
    steps: int = 64_000
    """Environment steps."""
    learning_starts: int = 1_000
    """Steps with random actions before the first update."""
    n_envs: int = 8
    """Environments side by side."""
    init_alpha: float = 0.01
    """The temperature at the beginning."""
    target_entropy: float | None = -2.0
    """Entropy that the temperature aims at."""

    def task(self, streams: Streams, accelerator: Accelerator) -> FarCornerTask:
        """Build the task."""
        return FarCornerTask(self, streams, accelerator)


class FarCornerTask(ControlTask):
    """A `ControlTask` whose test has the ways from the far corner, too."""

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return figures of episodes, and on test of the ways."""
        metrics = super().evaluate(split)
        return metrics if split == "validation" else {**metrics, **ways(self.agents[0], self.streams.key("ways"))}


def ways(agent: Agent, key: int) -> dict[str, float]:
    """Return figures of ways from [¾, 1]², by actions drawn from the policy."""
    draws = Streams(key)
    chance, noise = draws.numpy("chance"), draws.generator("noise")
    state = chance.uniform(0.75, 1.0, (WAYS, 2))
    total, inside, nearest = np.zeros(WAYS), np.zeros(WAYS), np.full(WAYS, np.inf)
    going = np.ones(WAYS, np.bool_)
    for _ in range(STEPS):
        away = np.linalg.norm(state - 0.5, axis=1)
        nearest = np.where(going, np.minimum(nearest, away), nearest)
        inside += going & (away <= RADIUS)
        action = _drawn(agent, state, noise)
        slip, u = chance.uniform(-0.02, 0.02, (WAYS, 2)), chance.random(WAYS)
        following, reward, ended = risky_pointmass_step(state, action, slip, u)
        total += np.where(going, reward, 0.0)
        state = np.where(going[:, None], following, state)
        going &= ~ended
    return {
        "closest_approach": float(np.median(nearest)),
        "steps_inside": float(inside.mean()),
        "way_return": float(total.mean()),
        "low_way_return": float(np.quantile(total, 0.05)),
        "arrived": float(1 - going.mean()),
    }


@torch.no_grad()
def _drawn(agent: Agent, state: Any, noise: torch.Generator) -> Any:
    raw = agent.actor(agent.normalized(torch.from_numpy(state.astype(np.float32)).to(agent.device)))
    eps = torch.randn(raw.shape[0], raw.shape[1] // 2, generator=noise).to(raw)
    return squashed_gaussian(raw, eps)[0].cpu().numpy()
