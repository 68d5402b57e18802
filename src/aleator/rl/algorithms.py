"""The agents by name: each is `Agent` with the meaning of its critics' outputs, see `aleator.rl.rules`.

They share networks, replay, collection and the update, so a comparison of them compares what critics mean and nothing
else. A comparison should also give all of them one rule of temperature: the authors' STAC and SAC have different ones.
"""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import torch

from aleator.random import Streams
from aleator.rl.agent import Agent
from aleator.rl.learner import OptimizerFactory
from aleator.rl.rules import Pessimistic, TwoGaussians, TwoNumbers, TwoQuantileSets
from aleator.rl.settings import AgentSettings, is_number

Space = gymnasium.Space[Any]


class STAC(Agent):
    """Stochastic actor-critic: one critic learns mean and one-step spread of its target, and β spreads are subtracted.

    Args:
        obs_space: of one environment, a flat Box.
        act_space: of one environment, a flat Box with finite bounds.
        beta: β, deviations subtracted in the target and for the actor; finite, not negative. 0 is a single critic
            without pessimism, and no SAC: its likelihood weighs errors by 1/σ².
        actor_dropout: see `AgentSettings`; so are the settings that follow.
        critic_dropout: see `AgentSettings`.
        seed: of all that the agent draws, or the streams to draw from.
        device: of networks and replay.
        optimizer: makes an optimizer of parameters, for actor and critic; Adam with ``lr`` when None.
        settings: the other fields of `AgentSettings`.

    Raises:
        ValueError: for spaces or settings that cannot work.

    Example:
        >>> agent = STAC(env.observation_space, env.action_space, beta=0.5, net_arch=(64, 64))
        >>> agent.learn("Pendulum-v1", 20_000)
    """

    def __init__(
        self,
        obs_space: Space,
        act_space: Space,
        *,
        beta: float = 0.25,
        actor_dropout: float = 0.01,
        critic_dropout: float = 0.01,
        seed: int | Streams = 0,
        device: torch.device | str = "cpu",
        optimizer: OptimizerFactory | None = None,
        **settings: Any,
    ) -> None:
        if not (is_number(beta) and 0 <= beta < math.inf):
            raise ValueError(f"beta must be finite and not negative, got {beta}")
        given = AgentSettings(actor_dropout=actor_dropout, critic_dropout=critic_dropout, **settings)
        super().__init__(
            obs_space,
            act_space,
            Pessimistic(float(beta)),
            given,
            own={"beta": float(beta)},
            seed=seed,
            device=device,
            optimizer=optimizer,
        )


class SAC(Agent):
    """Soft actor-critic: the smaller of two critics (Haarnoja et al., arXiv 1812.05905), with STAC's trunk.

    Args:
        obs_space: of one environment, a flat Box.
        act_space: of one environment, a flat Box with finite bounds.
        seed: of all that the agent draws, or the streams to draw from.
        device: of networks and replay.
        optimizer: makes an optimizer of parameters, for actor and critics; Adam with ``lr`` when None.
        settings: fields of `AgentSettings`.

    Raises:
        ValueError: for spaces or settings that cannot work.
    """

    def __init__(
        self,
        obs_space: Space,
        act_space: Space,
        *,
        seed: int | Streams = 0,
        device: torch.device | str = "cpu",
        optimizer: OptimizerFactory | None = None,
        **settings: Any,
    ) -> None:
        given = AgentSettings(**settings)
        super().__init__(
            obs_space, act_space, TwoNumbers(), given, own={}, seed=seed, device=device, optimizer=optimizer
        )


class ESTAC(Agent):
    """STAC's control: two Gaussian critics, the smaller mean, and no pessimism by their spread.

    Args:
        obs_space: of one environment, a flat Box.
        act_space: of one environment, a flat Box with finite bounds.
        seed: of all that the agent draws, or the streams to draw from.
        device: of networks and replay.
        optimizer: makes an optimizer of parameters, for actor and critics; Adam with ``lr`` when None.
        settings: fields of `AgentSettings`.

    Raises:
        ValueError: for spaces or settings that cannot work.
    """

    def __init__(
        self,
        obs_space: Space,
        act_space: Space,
        *,
        seed: int | Streams = 0,
        device: torch.device | str = "cpu",
        optimizer: OptimizerFactory | None = None,
        **settings: Any,
    ) -> None:
        given = AgentSettings(**settings)
        super().__init__(
            obs_space, act_space, TwoGaussians(), given, own={}, seed=seed, device=device, optimizer=optimizer
        )


class DSAC(Agent):
    """Distributional SAC: two critics of quantiles (Ma et al., arXiv 2004.14547), the smaller at each quantile.

    Its target critics have no dropout unless ``target_dropout`` is given, as in the authors' comparison.

    Args:
        obs_space: of one environment, a flat Box.
        act_space: of one environment, a flat Box with finite bounds.
        quantiles: N, of each critic.
        seed: of all that the agent draws, or the streams to draw from.
        device: of networks and replay.
        optimizer: makes an optimizer of parameters, for actor and critics; Adam with ``lr`` when None.
        settings: fields of `AgentSettings`.

    Raises:
        ValueError: for spaces or settings that cannot work.
    """

    def __init__(
        self,
        obs_space: Space,
        act_space: Space,
        *,
        quantiles: int = 25,
        seed: int | Streams = 0,
        device: torch.device | str = "cpu",
        optimizer: OptimizerFactory | None = None,
        **settings: Any,
    ) -> None:
        if quantiles < 1:
            raise ValueError(f"quantiles must be at least 1, got {quantiles}")
        given = AgentSettings(**{"target_dropout": False, **settings})
        super().__init__(
            obs_space,
            act_space,
            TwoQuantileSets(quantiles),
            given,
            own={"quantiles": quantiles},
            seed=seed,
            device=device,
            optimizer=optimizer,
        )
