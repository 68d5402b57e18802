"""Spaces and agents that several tests of the room make."""

from typing import Any

import gymnasium
import numpy as np
import torch

SMALL: dict[str, Any] = {"net_arch": (8, 8), "batch_size": 16, "learning_starts": 20, "capacity": 100}


def box(width: int, bound: float = 1.0) -> gymnasium.spaces.Box:
    return gymnasium.spaces.Box(-bound, bound, (width,), np.float32)


def a_batch(rows: int, obs: int = 3, act: int = 2, dtype: torch.dtype = torch.float64, seed: int = 0) -> dict[str, Any]:
    draw = torch.Generator().manual_seed(seed)
    numbers = {
        name: torch.randn(shape, generator=draw, dtype=dtype)
        for name, shape in {
            "obs": (rows, obs),
            "action": (rows, act),
            "reward": (rows,),
            "next_obs": (rows, obs),
        }.items()
    }
    return {**numbers, "action": numbers["action"].tanh(), "terminated": torch.rand(rows, generator=draw) < 0.3}
