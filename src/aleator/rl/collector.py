"""Experience: act in environments, remember what happened, begin the next episode where one ended.

Every episode is begun with a seed of its own, derived from the agent's seed, the environment's number and the
episode's. So the state of an environment is the seed of its episode and the actions since: what `Collector.state_dict`
holds, and `load_state_dict` carries out again. An environment whose steps draw from anything else than its own seeded
generator does not come back to the same observation; that is said, and a new episode begins.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from gymnasium.vector import VectorEnv
from torch import Tensor

from aleator.rl.trainee import Trainee

_log = logging.getLogger("aleator.rl")

Array = npt.NDArray[Any]
_KEPT = 100  # ended episodes whose returns are remembered


class Collector:
    """Vector environments in which an agent, or several, gather experience.

    Args:
        trainee: who acts; see `aleator.rl.trainee`.
        envs: with ``AutoresetMode.DISABLED``, the environments of the first member first.
        steps: taken elsewhere before, of each member, which count.
        begun: the number of each environment's first episode, which its seed is made of.

    Attributes:
        steps: environment steps of each member so far.
        returns: sums of the rewards of the last hundred episodes that ended.
        episodes: how many ended, of each environment.
    """

    def __init__(self, trainee: Trainee, envs: VectorEnv[Any, Any, Any], *, steps: int = 0, begun: int = 0) -> None:
        self.trainee, self.envs = trainee, envs
        self.count = envs.num_envs
        if self.count % trainee.members:
            raise ValueError(f"envs must be as many for each of {trainee.members} members, got {self.count}")
        self.steps, self._first = steps, begun
        self.returns: deque[float] = deque(maxlen=_KEPT)
        self.episodes = np.zeros(self.count, np.int64)
        self._sums = np.zeros(self.count)
        self._actions: list[list[Array]] = [[] for _ in range(self.count)]
        self._obs = self._begin(np.ones(self.count, np.bool_))

    @property
    def begun(self) -> int:
        """A number for the next episode that no environment here has begun."""
        return self._first + int(self.episodes.max()) + 1

    def step(self) -> int:
        """Take one step in every environment, and return how many that are of each member.

        Raises:
            ValueError: if an environment returns an observation or a reward that is not finite.
        """
        trainee, members = self.trainee, self.trainee.members
        settings = trainee.settings
        obs = self._obs
        action = trainee.explore(obs, at_random=self.steps < settings.learning_starts)
        sent = trainee.to_env(action)
        next_obs, reward, terminated, truncated, _ = self.envs.step(sent)
        _check(next_obs, "observation")
        _check(reward, "reward")
        trainee.observe(next_obs, np.ones(self.count, np.bool_))
        rows = self.count // members
        trainee.replay.add(
            _rows(obs, members),
            action,
            _rows(reward, members),
            _rows(next_obs, members),
            torch.from_numpy(np.asarray(terminated)).view(members, rows),
        )
        self._sums += reward
        for taken, one in zip(self._actions, sent, strict=True):
            taken.append(one)
        ended = np.logical_or(terminated, truncated)
        if ended.any():
            self.returns.extend(self._sums[ended].tolist())
            self.episodes += ended
            next_obs = self._begin(ended)
        self._obs = np.array(next_obs)  # a vector environment may write the next ones into the same array
        self.steps += rows
        return rows

    def state_dict(self) -> dict[str, Any]:
        """Return the seeds of the episodes under way and the actions since, and what is counted."""
        return {
            "steps": self.steps,
            "first": self._first,
            "episodes": torch.from_numpy(self.episodes.copy()),
            "sums": torch.from_numpy(self._sums.copy()),
            "returns": list(self.returns),
            "obs": torch.from_numpy(np.array(self._obs)),
            "actions": [torch.from_numpy(np.array(taken)) for taken in self._actions],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Bring every environment back to where it was, by doing again what was done since its episode began.

        Raises:
            ValueError: if there were more or fewer environments.
        """
        if len(state["actions"]) != self.count:
            raise ValueError(f"the saved environments must be {self.count}, got {len(state['actions'])}")
        self.steps, self._first = state["steps"], state["first"]
        self.episodes = state["episodes"].numpy().copy()
        self.returns = deque(state["returns"], maxlen=_KEPT)
        self._actions = [list(taken.numpy()) for taken in state["actions"]]
        self._sums = state["sums"].numpy().copy()
        obs = self._done_again()
        elsewhere = (obs != state["obs"].numpy()).reshape(self.count, -1).any(1)
        if elsewhere.any():
            _log.warning(
                "%d of %d environments are not deterministic: their episodes begin anew", elsewhere.sum(), self.count
            )
            self.episodes += elsewhere
            obs = self._begin(elsewhere)
        self._obs = obs

    def _done_again(self) -> Array:
        """Begin all episodes so that, step by step together, all arrive where they were at the same time."""
        longest = max(len(taken) for taken in self._actions)
        begins = np.array([longest - len(taken) for taken in self._actions])
        space: Any = self.envs.action_space
        idle = np.zeros(space.shape, space.dtype)
        obs, ended = None, np.ones(self.count, np.bool_)
        for step in range(longest + 1):
            reset = (begins == step) | (ended & (begins >= step))
            if reset.any():
                obs, _ = self._reset(reset)
            if step == longest:
                break
            actions = idle.copy()
            for env, taken in enumerate(self._actions):
                if step >= begins[env]:
                    actions[env] = taken[step - begins[env]]
            obs, _, terminated, truncated, _ = self.envs.step(actions)
            ended = np.logical_or(terminated, truncated)
        return np.array(obs)

    def _begin(self, ended: npt.NDArray[np.bool_]) -> Array:
        for env in np.flatnonzero(ended):
            self._actions[env] = []
        self._sums[ended] = 0.0
        obs, _ = self._reset(ended)
        _check(obs, "observation")
        self.trainee.observe(np.asarray(obs), ended)
        return np.array(obs)

    def _reset(self, which: npt.NDArray[np.bool_]) -> tuple[Any, dict[str, Any]]:
        numbers = (self._first + self.episodes).tolist()
        seeds: Any = [self.trainee.episode_key(env, self.count, number) for env, number in enumerate(numbers)]
        found: tuple[Any, dict[str, Any]] = self.envs.reset(seed=seeds, options={"reset_mask": which.copy()})
        return found


def learn_when_due(trainee: Trainee, collector: Collector) -> tuple[int, dict[str, Tensor]]:
    """Take the environment steps up to the next updates and, if it is time, the updates.

    Returns:
        environment steps of each member, and the metrics of the last update, none before learning starts.
    """
    settings = trainee.settings
    steps = sum(collector.step() for _ in range(settings.train_freq))
    metrics: dict[str, Tensor] = {}
    if collector.steps > settings.learning_starts and trainee.replay.size >= settings.batch_size:
        for _ in range(settings.gradient_steps):
            metrics = trainee.update_from_replay()
    return steps, metrics


def _check(values: Any, what: str) -> None:
    # As the replay keeps them: 1e300 is infinite there.
    with np.errstate(over="ignore"):
        finite = np.isfinite(np.asarray(values, np.float32)).all()
    if not finite:
        raise ValueError(f"every {what} of an environment must be finite in float32, got {np.asarray(values).tolist()}")


def _rows(values: Any, members: int) -> Tensor:
    tensor = torch.from_numpy(np.asarray(values))
    return tensor.view(members, -1, *tensor.shape[1:])
