"""An agent: an actor, critics and what it remembers, in the manner of Stable-Baselines3.

    agent = STAC(env.observation_space, env.action_space, beta=0.5)
    agent.learn("Pendulum-v1", 20_000)
    action = agent.act(obs, deterministic=True)

`Agent` has what all algorithms share: networks, replay, collection, saving. An algorithm is a subclass that says what
the critics' outputs mean, see `aleator.rl.rules`. Inside, actions are in [−1, 1]; `act` and `value` speak the
environment's units.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import gymnasium
import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor, nn

from aleator.random import Streams
from aleator.rl import agent_file
from aleator.rl.collector import Collector, learn_when_due
from aleator.rl.lean_adam import LeanAdam
from aleator.rl.learner import CriticRule, Learner, Masks, Noise, OptimizerFactory
from aleator.rl.networks import Trunk
from aleator.rl.normalizer import ObservationNormalizer
from aleator.rl.policy import squashed_gaussian
from aleator.rl.replay import Batch, Replay
from aleator.rl.settings import AgentSettings
from aleator.rl.spaces import Environments, check_spaces, vectorised
from aleator.rl.temperature import Temperature

Callback = Callable[[Any, Collector, Mapping[str, Tensor]], bool | None]
# typing.Self is more than the shape-checking hook of the tests understands.
_Own = TypeVar("_Own", bound="Agent")


class Agent(nn.Module):
    """What `STAC`, `SAC`, `ESTAC` and `DSAC` share.

    Args:
        obs_space: of one environment, a flat Box.
        act_space: of one environment, a flat Box with finite bounds.
        rule: what the critics' outputs mean.
        settings: see `AgentSettings`.
        own: arguments of the subclass, for saving.
        seed: of all that the agent draws, or the streams to draw from.
        device: of networks and replay.
        optimizer: makes an optimizer of parameters, for actor and critics; Adam with ``settings.lr`` when None.

    Raises:
        ValueError: for spaces or settings that cannot work.
    """

    members = 1

    def __init__(
        self,
        obs_space: gymnasium.Space[Any],
        act_space: gymnasium.Space[Any],
        rule: CriticRule,
        settings: AgentSettings,
        *,
        own: Mapping[str, Any],
        seed: int | Streams = 0,
        device: torch.device | str = "cpu",
        optimizer: OptimizerFactory | None = None,
    ) -> None:
        super().__init__()
        obs_dim, act_dim = check_spaces(obs_space, act_space)
        self.obs_space = cast("gymnasium.spaces.Box", obs_space)
        self.act_space = cast("gymnasium.spaces.Box", act_space)
        self.rule, self.settings, self.own = rule, settings, dict(own)
        self.streams = seed if isinstance(seed, Streams) else Streams(seed, device)
        with self.streams.scope("init"):
            self.actor = Trunk(obs_dim, settings.net_arch, 2 * act_dim, settings.actor_dropout)
            critics = [
                Trunk(obs_dim + act_dim, settings.net_arch, rule.outputs, settings.critic_dropout)
                for _ in range(rule.critics)
            ]
        for critic in critics:
            cast("nn.Linear", critic.layers[-1]).bias.data[list(rule.zero_bias)] = 0.0
        targets = [copy.deepcopy(critic).requires_grad_(False) for critic in critics]
        if rule.critics == 1:
            (self.critic,), (self.target_critic,) = critics, targets
        else:
            self.critics, self.target_critics = nn.ModuleList(critics), nn.ModuleList(targets)
        self.normalizer = ObservationNormalizer(obs_dim) if settings.normalize_obs else None
        moving = settings.alpha == "auto"
        aim = float(-act_dim if settings.target_entropy == "auto" else settings.target_entropy)
        self.temperature = Temperature(
            settings.init_alpha if settings.alpha == "auto" else settings.alpha,
            aim if moving else None,
            settings.lr,
            settings.temperature_rule,
        )
        self.to(device)
        self.learner = Learner(
            rule,
            list(self.actor.parameters()),
            [list(critic.parameters()) for critic in critics],
            [list(target.parameters()) for target in targets],
            self.temperature,
            gamma=settings.gamma,
            tau=settings.tau,
            optimizer=optimizer or partial(LeanAdam, lr=settings.lr),
            compiled=settings.compile,
        )
        self.replay = Replay(settings.capacity, obs_dim, act_dim, device=device)
        self._noise = self.streams.generator("noise", device=device)
        self._dropout = self.streams.generator("dropout", device=device)
        self._places = self.streams.numpy("replay")
        self._collector: Collector | None = None
        self._taken = self._begun = 0  # steps and episodes of collectors before that one

    # --- for everybody ---------------------------------------------------------------------------------------------

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.learner.actor[0].device

    @property
    def alpha(self) -> Tensor:
        """The temperature of the entropy, 0-d."""
        return self.temperature.alpha

    def learn(
        self: _Own, env: Environments, total_steps: int, callback: Callback | None = None, *, n_envs: int = 1
    ) -> _Own:
        """Learn from this many more environment steps, and return the agent.

        A second call with the same vector environment goes on in the episodes under way; with another one, or after
        `load`, it begins episodes that were not begun before. Steps are counted on: random actions come once.

        Args:
            env: the name of an environment, a function that makes one, one environment, or a vector environment with
                ``AutoresetMode.DISABLED``.
            total_steps: steps of all its environments together.
            callback: called with the agent, the collector and the metrics of the last update after every step; what
                returns False ends learning. See `aleator.rl.KeepBest`.
            n_envs: how many environments are made of a name or a function.

        Raises:
            ValueError: if ``total_steps`` or ``n_envs`` is not positive, or the environment has other spaces than the
                agent, or returns a number that is not finite.
            FloatingPointError: if a loss was not finite; it is read at the end.
        """
        if not total_steps >= 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}")
        envs = vectorised(env, n_envs)
        collector = self._collector
        if collector is None or collector.envs is not envs:
            collector = self.collector(envs)
        until = collector.steps + total_steps
        while collector.steps < until:
            _, metrics = learn_when_due(self, collector)
            if callback is not None and callback(self, collector, metrics) is False:
                break
        self.check_finite()
        return self

    def collector(self, envs: Any) -> Collector:
        """Return a collector in these environments, for a loop of one's own.

        It counts steps and episodes on from the agent's last one.

        Args:
            envs: see `vectorised`.

        Raises:
            ValueError: if the environments have other spaces than the agent.
        """
        envs = vectorised(envs)
        for name, own in (("observation", self.obs_space), ("action", self.act_space)):
            space = getattr(envs, f"single_{name}_space")
            if space != own:
                raise ValueError(f"the environment's {name} space must be {own}, got {space}")
        self._taken, self._begun = self._progress()
        self._collector = Collector(self, envs, steps=self._taken, begun=self._begun)
        return self._collector

    @torch.no_grad()
    def act(self, obs: Any, deterministic: bool = False) -> Any:
        """Return actions in the environment's units.

        Args:
            obs: one observation or rows of them, an array or a tensor.
            deterministic: tanh of the policy's mean; otherwise a draw from the policy. Without dropout in either case.

        Returns:
            An array for an array, a tensor for a tensor.

        Raises:
            ValueError: if ``obs`` has another width than the environment's observations or, on a CPU, is not finite.
        """
        given = torch.as_tensor(obs)
        dim = self.obs_space.shape[0]
        if given.ndim < 1 or given.shape[-1] != dim:
            raise ValueError(f"obs must have {dim} coordinates, got shape {tuple(given.shape)}")
        if given.device.type == "cpu" and not bool(torch.isfinite(given).all()):
            raise ValueError(f"obs must be finite, got {given[~torch.isfinite(given)][0].item()}")
        x = self.normalized(given.to(self.device, self.learner.actor[0].dtype))
        raw = self.actor(x)
        eps = torch.zeros_like(raw[..., ::2])
        if not deterministic:
            eps = torch.randn(eps.shape, generator=self._noise, dtype=eps.dtype, device=eps.device)
        action, _ = squashed_gaussian(raw, eps)
        if isinstance(obs, Tensor):
            return self._scaled(action)
        return self.to_env(action).reshape(action.shape)

    @torch.no_grad()
    def value(self, obs: Any, act: Any) -> tuple[Tensor, Tensor | None]:
        """Return what the critics think of actions: the estimate and its deviation, without dropout.

        Args:
            obs: observations, ``[..., obs]``.
            act: actions in the environment's units, ``[..., action]``.

        Returns:
            The estimate without the coming entropy bonus of this action, and the deviation: of a transition's target
            for STAC and ESTAC, of the quantiles for DSAC, None for SAC.
        """
        like = self.learner.actor[0]
        x = self.normalized(torch.as_tensor(obs).to(like))
        low, high = (torch.as_tensor(bound).to(like) for bound in (self.act_space.low, self.act_space.high))
        action = (2 * torch.as_tensor(act).to(like) - high - low) / (high - low)
        return self.judged(x, action)

    def update(self, batch: Mapping[str, Any] | Batch, noise: Noise | None = None) -> dict[str, Tensor]:
        """Take one update and return its metrics as 0-d tensors.

        Args:
            batch: ``obs`` [B, d], ``action`` [B, a] in [−1, 1], ``reward`` [B], ``next_obs`` [B, d], ``terminated``
                [B] boolean, true for terminal states and not for cuts; tensors or arrays.
            noise: standard normal ``[B, a]`` for the next action and for the actor's; drawn when None. With dropout
                the masks are drawn in any case.

        Returns:
            ``q_loss``, ``pi_loss``, ``entropy``, ``q_mean``, ``q_std`` where there is one, and ``alpha`` behind the
            step.

        Raises:
            ValueError: if the fields do not fit each other, ``terminated`` is not boolean, or, on a CPU, a number is
                not finite.
        """
        if not isinstance(batch, Batch):
            missing = [name for name in Batch._fields if name not in batch]
            if missing:
                raise ValueError(f"batch must have {', '.join(Batch._fields)}, got none of {', '.join(missing)}")
            batch = Batch(**{name: torch.as_tensor(batch[name]) for name in Batch._fields})
        _check_batch(batch, self.obs_space.shape[0], self.act_space.shape[0])
        return self._update(batch, noise)

    def check_finite(self) -> None:
        """Wait for the device and see whether all losses so far were finite.

        Raises:
            FloatingPointError: if one was not.
        """
        if not bool(self.learner.finite):
            raise FloatingPointError("a loss of the critics or the actor was not finite")

    # --- for loops and evaluation ----------------------------------------------------------------------------------

    def normalized(self, obs: Tensor) -> Tensor:
        """Return observations as the networks want them."""
        return obs if self.normalizer is None else cast("Tensor", self.normalizer(obs))

    def judged(self, obs: Tensor, action: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return estimate and deviation for normalised observations and actions in [−1, 1]."""
        both = torch.cat([obs, action], -1)
        critics = [self.critic] if self.rule.critics == 1 else self.critics
        return self.rule.value([critic(both) for critic in critics])

    def observe(self, obs: npt.NDArray[np.floating[Any]], which: npt.NDArray[np.bool_]) -> None:
        """Take note of the observations of these environments, if they are normalised."""
        if self.normalizer is not None:
            self.normalizer.observe(obs[which])

    def episode_key(self, env: int, envs: int, episode: int) -> int:
        """Return the seed of an episode."""
        return self.streams.key("episode", env, episode)

    @torch.no_grad()
    def explore(self, obs: npt.NDArray[np.floating[Any]], *, at_random: bool) -> Tensor:
        """Return exploring actions in [−1, 1], ``[1, rows, action]``: tanh of noise, or the policy with dropout."""
        eps = self.draw_noise(len(obs))
        if at_random:
            return torch.tanh(eps).unsqueeze(0)
        x = self.normalized(torch.from_numpy(np.asarray(obs)).to(eps))
        action, _ = squashed_gaussian(self.actor(x, self.draw_actor_masks(len(obs))), eps)
        return action.unsqueeze(0)

    def to_env(self, action: Tensor) -> npt.NDArray[np.floating[Any]]:
        """Return actions in the environment's units, one row for each."""
        flat = self._scaled(action).reshape(-1, action.shape[-1])
        return flat.cpu().numpy().astype(self.act_space.dtype)

    def update_from_replay(self) -> dict[str, Tensor]:
        """Take one update on distinct transitions, drawn uniformly."""
        return self._update(self.replay.batch(self.draw_places(self.replay.size)), None)

    def draw_noise(self, rows: int) -> Float[Tensor, "rows action"]:
        """Return standard normal noise for actions."""
        like = self.learner.actor[0]
        shape = (rows, self.act_space.shape[0])
        return torch.randn(shape, generator=self._noise, dtype=like.dtype, device=like.device)

    def draw_masks(self, rows: int) -> Masks:
        """Return the masks of one update on this many transitions."""
        settings = self.settings
        return self.learner.draw_masks(
            rows, settings.actor_dropout, settings.critic_dropout, settings.target_dropout, self._dropout
        )

    def draw_actor_masks(self, rows: int) -> list[Tensor]:
        """Return the actor's masks for exploration."""
        return self.learner.draw_actor_masks(rows, self.settings.actor_dropout, self._dropout)

    def draw_places(self, size: int) -> Tensor:
        """Return distinct places in a replay with this many transitions."""
        places = self._places.choice(size, self.settings.batch_size, replace=False, shuffle=False)
        return torch.from_numpy(places).to(self.device, non_blocking=True)

    # --- saving ----------------------------------------------------------------------------------------------------

    def training_state(self, *, replay: bool = True) -> dict[str, Any]:
        """Return everything that learning changes, but the environments and the random streams."""
        state = {
            "model": self.state_dict(),
            "learner": self.learner.state_dict(),
            "progress": list(self._progress()),
        }
        return {**state, "replay": self.replay.state_dict()} if replay else state

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `training_state` was called.

        Raises:
            ValueError: if a replay of other spaces is in it.
        """
        self.load_state_dict(state["model"])
        self.learner.load_state_dict(state["learner"])
        self._taken, self._begun = state["progress"]
        if "replay" in state:
            self.replay.load_state_dict(state["replay"])

    def save(self, path: str | Path, *, replay: bool = False) -> None:
        """Write the agent to a folder: ``agent.json`` and safetensors files, and nothing that could run.

        Weights, temperature, optimizers, statistics of the observations and random streams are in it.

        Args:
            path: of the folder, which is made.
            replay: whether what it remembers is saved too, its filled slice, in a file of its own: 4 bytes for
                each number of ``2 · obs + action + 2``, 170 MB for a million transitions of HalfCheetah.
        """
        agent_file.save(self, Path(path), replay=replay)

    @classmethod
    def load(
        cls: type[_Own],
        path: str | Path,
        *,
        device: torch.device | str = "cpu",
        optimizer: OptimizerFactory | None = None,
    ) -> _Own:
        """Return the agent that `save` wrote, with its replay if that was saved.

        Args:
            path: of the folder.
            device: where it shall be.
            optimizer: as it was made with, if not by default.

        Raises:
            ValueError: if the folder holds no agent of this class, or a replay of another environment.
        """
        return cast("_Own", agent_file.load(cls, Path(path), device, optimizer))

    # --- inside ----------------------------------------------------------------------------------------------------

    def _progress(self) -> tuple[int, int]:
        """Return the steps taken so far, and the number of an episode that no environment has begun."""
        collector = self._collector
        return (self._taken, self._begun) if collector is None else (collector.steps, collector.begun)

    def _update(self, batch: Batch, noise: Noise | None) -> dict[str, Tensor]:
        like, rows = self.learner.actor[0], len(batch.reward)
        batch = Batch(*(part.to(like) if part.dtype != torch.bool else part for part in batch))
        if self.normalizer is not None:
            batch = batch._replace(obs=self.normalizer(batch.obs), next_obs=self.normalizer(batch.next_obs))
        if noise is None:
            noise = self.draw_noise(rows), self.draw_noise(rows)
        return self.learner.update(batch, (noise[0].to(like), noise[1].to(like)), self.draw_masks(rows))

    def _scaled(self, action: Tensor) -> Tensor:
        low, high = (torch.as_tensor(bound).to(action) for bound in (self.act_space.low, self.act_space.high))
        return (high + low) / 2 + (high - low) / 2 * action


def _check_batch(batch: Batch, obs_dim: int, act_dim: int) -> None:
    rows = len(batch.reward) if batch.reward.ndim else 0
    lengths = [len(part) if part.ndim else 0 for part in batch]
    if len(set(lengths)) > 1:
        found = ", ".join(f"{name} {length}" for name, length in zip(Batch._fields, lengths, strict=True))
        raise ValueError(f"all fields of a batch must have one row for each transition, got {found}")
    if not rows:
        raise ValueError("a batch must have at least one transition, got none")
    shapes = Batch((rows, obs_dim), (rows, act_dim), (rows,), (rows, obs_dim), (rows,))  # type: ignore[arg-type]
    for name, part, shape in zip(Batch._fields, batch, shapes, strict=True):
        if tuple(part.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, got {tuple(part.shape)}")
    if batch.terminated.dtype != torch.bool:
        raise ValueError(f"terminated must be boolean, got {batch.terminated.dtype}")
    for name, part in (
        ("obs", batch.obs),
        ("action", batch.action),
        ("reward", batch.reward),
        ("next_obs", batch.next_obs),
    ):
        if part.device.type == "cpu" and not bool(torch.isfinite(part).all()):
            raise ValueError(f"{name} must be finite, got {part[~torch.isfinite(part)][0].item()}")
