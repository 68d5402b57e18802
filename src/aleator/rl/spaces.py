"""Spaces that agents can work in, and vector environments that do not lose the last observation.

Gymnasium's vector environments by default reset one step late: the step behind the end of an episode ignores its
action and returns the first observation of the next one with reward 0, which must not enter a replay. With
``AutoresetMode.DISABLED`` an environment stays where it ended until it is reset.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

Environments = str | Callable[[], Any] | gymnasium.Env[Any, Any] | VectorEnv[Any, Any, Any]


def check_spaces(obs_space: Any, act_space: Any) -> tuple[int, int]:
    """Return the widths of observations and actions.

    Raises:
        ValueError: unless both spaces are flat boxes and the actions' is bounded.
    """
    for name, space in (("obs_space", obs_space), ("act_space", act_space)):
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"{name} must be a Box of one axis, got {space}")
    if not (np.isfinite(act_space.low).all() and np.isfinite(act_space.high).all()):
        raise ValueError(f"act_space must have finite bounds, got {act_space}")
    return obs_space.shape[0], act_space.shape[0]


def vectorised(env: Environments, count: int = 1) -> VectorEnv[Any, Any, Any]:
    """Return environments side by side that wait to be reset.

    Args:
        env: a name, a function that makes one, one environment, or a vector environment.
        count: how many; one environment cannot become several, and a vector environment has its own number.

    Raises:
        ValueError: if that cannot be done, or a vector environment resets by itself.
    """
    if isinstance(env, VectorEnv):
        mode = env.metadata.get("autoreset_mode")
        if mode != AutoresetMode.DISABLED:
            raise ValueError(f"a vector environment must have autoreset_mode AutoresetMode.DISABLED, got {mode}")
        if count not in (1, env.num_envs):
            raise ValueError(f"count must be the vector environment's own, {env.num_envs}, got {count}")
        return env
    if isinstance(env, gymnasium.Env):
        if count != 1:
            raise ValueError(f"count must be 1 with one environment, got {count}: give its name or a function")
        given = env
        return SyncVectorEnv([lambda: given], autoreset_mode=AutoresetMode.DISABLED)
    return SyncVectorEnv([maker(env)] * count, autoreset_mode=AutoresetMode.DISABLED)


def maker(env: str | Callable[[], Any], **options: Any) -> Callable[[], Any]:
    """Return the function that makes an environment, of its name or as it is.

    Raises:
        ValueError: if a name is not registered.
    """
    if not isinstance(env, str):
        return env
    try:
        gymnasium.spec(env)
    except gymnasium.error.Error as error:
        raise ValueError(f"env must be registered with gymnasium, got {env!r}: {error}") from error
    return lambda: gymnasium.make(env, **options)
