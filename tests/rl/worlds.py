"""Environments with something to see: every number says where it comes from."""

from typing import Any

import gymnasium
import numpy as np


class Counting(gymnasium.Env[Any, Any]):
    """Observation (seed mod 1000, steps so far, sum of actions); ends or is cut off after a number of steps."""

    def __init__(self, ends: int = 0, cut: int = 0, bad: str = "", noise: bool = False) -> None:
        self.observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (3,), np.float64)
        self.action_space = gymnasium.spaces.Box(np.float32([-2.0]), np.float32([4.0]), dtype=np.float32)
        self.ends, self.cut, self.bad, self.noise = ends, cut, bad, noise

    def reset(self, *, seed: int | None = None, options: Any = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        assert seed is not None, "every episode has a seed of its own"
        self.state = np.array([seed % 1000, 0.0, 0.0])
        return self.state.copy(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.state[1:] += 1, float(action[0])
        if self.noise:
            self.state[2] += np.random.default_rng().random()
        steps = int(self.state[1])
        bad = {"reward": float("nan"), "range": 1e300}
        reward = bad.get(self.bad, 3.0) if steps == 3 else float(steps)
        obs = self.state.copy()
        if self.bad == "observation" and steps == 3:
            obs[0] = np.nan
        return obs, reward, steps == self.ends, steps == self.cut, {}
