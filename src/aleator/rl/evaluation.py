"""Evaluation: how much an agent earns, and by how much its critic is wrong about it.

The value error of an episode is how far the critic's soft values are above what came,

    error = mean over t of (q_t − α log π_t) − G_t,    G_t = r_t − α log π_t + γ G_{t+1}

with G of the last step the critic's own estimate where the episode was cut off, and r_T − α log π_T where it ended, for
nothing follows. log π_t is the density at the action taken. Of tanh(mean) it is the one at u = mean; an average of
several actions is no draw and has none, so it measures returns only.

U. Özalp, arXiv 2601.00737, section 5.2. The official evaluator bootstraps true ends, too, and takes u = atanh(a), which
is infinite for saturated actions: a quarter of some of its errors are NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from aleator.random import derive_key
from aleator.rl.agent import Agent
from aleator.rl.policy import squashed_gaussian
from aleator.rl.spaces import maker

Choice = Literal["mean", "average"]
AVERAGED = 10  # actions, as in the official evaluator
LONGEST = 100_000  # steps of an episode: nobody waits for what never ends


def value_error(q_mean: Any, reward: Any, log_prob: Any, alpha: float, gamma: float, terminated: bool) -> float:
    """Return how far a critic's values were above what came, on the average over an episode.

    Args:
        q_mean: the critic's estimates, one for each step: numbers or a tensor.
        reward: of each step.
        log_prob: log π of each action.
        alpha: temperature.
        gamma: discount.
        terminated: whether the episode ended, and was not cut off.

    Raises:
        ValueError: if there is no step, or the lengths differ.
    """
    q, rewards, logs = (np.asarray(_plain(values), np.float64).reshape(-1) for values in (q_mean, reward, log_prob))
    if not len(q) or not len(q) == len(rewards) == len(logs):
        raise ValueError(
            "q_mean, reward and log_prob must have one number for each step, "
            f"got {len(q)}, {len(rewards)} and {len(logs)}"
        )
    bonus = float(alpha) * logs
    following = rewards[-1] - bonus[-1] if terminated else q[-1] - bonus[-1]
    errors = [q[-1] - bonus[-1] - following]
    for t in range(len(q) - 2, -1, -1):
        following = rewards[t] - bonus[t] + gamma * following
        errors.append(q[t] - bonus[t] - following)
    return float(np.mean(errors))


@dataclass(frozen=True)
class Evaluation:
    """What episodes came to.

    Attributes:
        returns: sum of the rewards of each episode.
        lengths: steps of each.
        value_errors: of each; NaN where actions were averaged.
    """

    returns: npt.NDArray[np.float64]
    lengths: npt.NDArray[np.int64]
    value_errors: npt.NDArray[np.float64]


class Evaluator:
    """Environments that are kept for evaluations, as many as there are episodes.

    Args:
        env: the name of an environment, or a function that makes one.
        episodes: of an evaluation; they are played side by side.

    Raises:
        ValueError: if ``episodes`` is not positive, or a name is unknown.
    """

    def __init__(self, env: str | Callable[[], Any], episodes: int) -> None:
        if episodes < 1:
            raise ValueError(f"episodes must be at least 1, got {episodes}")
        make = maker(env)
        self.envs = [make() for _ in range(episodes)]

    def __call__(
        self, agent: Agent, key: int, *, actions: Choice = "mean", watch: Callable[[Any], None] | None = None
    ) -> Evaluation:
        """Play the episodes of a key and return what they came to.

        Args:
            agent: who acts, without dropout. It learns nothing, and draws nothing from its own streams.
            key: of the episodes' beginnings; the same key gives the same ones.
            actions: tanh of the policy's mean, or the paper's mean of ten draws.
            watch: called with the first environment after its reset and each of its steps.

        Raises:
            ValueError: if an episode has not ended after 100 000 steps.
        """
        generator = torch.Generator(agent.device).manual_seed(derive_key(key, "averaged"))
        steps: list[list[tuple[float, float, float]]] = [[] for _ in self.envs]
        ended = np.zeros(len(self.envs), np.bool_)
        alive = list(range(len(self.envs)))
        obs = [env.reset(seed=derive_key(key, "evaluation", place))[0] for place, env in enumerate(self.envs)]
        if watch is not None:
            watch(self.envs[0])
        while alive:
            chosen, q, log_prob = _decide(agent, np.stack([obs[place] for place in alive]), actions, generator)
            going = []
            for row, place in enumerate(alive):
                obs[place], reward, terminated, truncated, _ = self.envs[place].step(chosen[row])
                steps[place].append((q[row], float(reward), log_prob[row]))
                ended[place] = terminated
                if watch is not None and place == 0:
                    watch(self.envs[0])
                if not (terminated or truncated):
                    if len(steps[place]) >= LONGEST:
                        raise ValueError(
                            f"an episode must end, got {LONGEST} steps; gymnasium.wrappers.TimeLimit cuts it off"
                        )
                    going.append(place)
            alive = going
        alpha, gamma = float(agent.alpha), agent.settings.gamma
        errors = []
        for episode, end in zip(steps, ended, strict=True):
            estimates, rewards, logs = np.array(episode).T
            errors.append(value_error(estimates, rewards, logs, alpha, gamma, bool(end)))
        return Evaluation(
            np.array([sum(step[1] for step in episode) for episode in steps]),
            np.array([len(episode) for episode in steps]),
            np.array(errors),
        )

    def close(self) -> None:
        """Close the environments."""
        for env in self.envs:
            env.close()


@torch.no_grad()
def _decide(
    agent: Agent, obs: npt.NDArray[Any], actions: Choice, generator: torch.Generator
) -> tuple[npt.NDArray[Any], list[float], list[float]]:
    """Return actions in the environment's units, and what the critic thinks of them."""
    like = agent.learner.actor[0]
    x = agent.normalized(torch.from_numpy(obs).to(like))
    raw = agent.actor(x)
    if actions == "average":
        raws = raw.expand(AVERAGED, *raw.shape)
        eps = torch.randn(raws[..., ::2].shape, generator=generator, dtype=raw.dtype, device=raw.device)
        action = squashed_gaussian(raws, eps)[0].mean(0)
        nothing = [float("nan")] * len(obs)
        return agent.to_env(action), nothing, nothing
    action, log_prob = squashed_gaussian(raw, torch.zeros_like(raw[..., ::2]))
    estimate, _ = agent.judged(x, action)
    return agent.to_env(action), estimate.tolist(), log_prob.tolist()


def _plain(values: Any) -> Any:
    if isinstance(values, torch.Tensor):
        return values.detach().cpu().double().numpy()
    if isinstance(values, Sequence):
        return [float(value) for value in values]
    return values
