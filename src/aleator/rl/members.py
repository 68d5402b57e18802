"""Several agents trained side by side, their parameters stacked along a leading axis.

Small networks leave a processor waiting for the next operation. Eight agents of one shape, stacked by
`torch.func.stack_module_state`, take as many operations as one:  [8, batch, in] · [8, in, out].  Losses are added, so
gradients, Adam and temperatures stay each member's own; every member draws from its own streams, and so comes to what
it would come to alone, up to rounding. Members may differ in seed and in STAC's β.

The members' own parameters become views of the stack: each can act, be evaluated and be saved by itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from aleator.rl.agent import Agent
from aleator.rl.collector import Collector
from aleator.rl.lean_adam import LeanAdam
from aleator.rl.learner import Learner, Masks, OptimizerFactory
from aleator.rl.networks import trunk
from aleator.rl.policy import squashed_gaussian
from aleator.rl.replay import Batch, Replay
from aleator.rl.rules import Pessimistic
from aleator.rl.temperature import Temperature


class Members:
    """Agents that learn together; a `aleator.rl.trainee.Trainee`.

    Args:
        agents: of one class, with the same spaces and settings, none of which has learned yet. Each needs streams of
            its own.
        optimizer: makes an optimizer of stacked parameters, elementwise as Adam is; Adam when None.

    Raises:
        ValueError: if the agents differ in more than seed and β, share streams, or have learned already.
    """

    def __init__(self, agents: Sequence[Agent], *, optimizer: OptimizerFactory | None = None) -> None:
        self.agents = list(agents)
        self._check()
        first = self.agents[0]
        self.settings = first.settings
        rule = first.rule
        if isinstance(rule, Pessimistic):
            betas = [agent.rule.beta for agent in self.agents if isinstance(agent.rule, Pessimistic)]
            rule = dataclasses.replace(rule, beta=torch.tensor(betas, device=first.device).unsqueeze(-1))
        names = ["actor", *(["critic", "target_critic"] if rule.critics == 1 else [])]
        if rule.critics > 1:
            names += [f"{kind}.{index}" for kind in ("critics", "target_critics") for index in range(rule.critics)]
        stacks = [_stacked([agent.get_submodule(name) for agent in self.agents]) for name in names]
        critics, targets = stacks[1 : 1 + rule.critics], stacks[1 + rule.critics :]
        one = first.temperature
        self.temperature = Temperature(
            torch.stack([agent.temperature.alpha for agent in self.agents]), one.target_entropy, one.lr, one.rule
        ).to(first.device)
        for index, agent in enumerate(self.agents):
            agent.temperature.alpha = self.temperature.alpha[index]
            if one.optimizer is not None:
                agent.temperature.log_alpha.data = self.temperature.log_alpha.data[index]
        self.learner = Learner(
            rule,
            stacks[0],
            critics,
            targets,
            self.temperature,
            gamma=first.settings.gamma,
            tau=first.settings.tau,
            optimizer=optimizer or partial(LeanAdam, lr=first.settings.lr),
            compiled=first.settings.compile,
        )
        self.replay = Replay(
            first.settings.capacity,
            first.obs_space.shape[0],
            first.act_space.shape[0],
            members=len(self.agents),
            device=first.device,
        )

    @property
    def members(self) -> int:
        """How many agents these are."""
        return len(self.agents)

    def collector(self, envs: Any) -> Collector:
        """Return a collector in these environments, those of the first member first."""
        return Collector(self, envs)

    def episode_key(self, env: int, envs: int, episode: int) -> int:
        """Return the seed of an episode: what the member would give it alone."""
        each = envs // self.members
        return self.agents[env // each].episode_key(env % each, each, episode)

    def observe(self, obs: npt.NDArray[np.floating[Any]], which: npt.NDArray[np.bool_]) -> None:
        """Let every member take note of the observations of those of these environments that are its own."""
        rows = len(obs) // self.members
        for index, agent in enumerate(self.agents):
            own = slice(index * rows, (index + 1) * rows)
            agent.observe(obs[own], which[own])

    @torch.no_grad()
    def explore(self, obs: npt.NDArray[np.floating[Any]], *, at_random: bool) -> Tensor:
        """Return exploring actions in [−1, 1], ``[members, environments of each, action]``."""
        rows = len(obs) // self.members
        eps = torch.stack([agent.draw_noise(rows) for agent in self.agents])
        if at_random:
            return torch.tanh(eps)
        x = torch.from_numpy(np.asarray(obs)).to(eps).view(self.members, rows, -1)
        masks = _together([agent.draw_actor_masks(rows) for agent in self.agents])
        return squashed_gaussian(trunk(self.learner.actor, self._normalized(x), masks), eps)[0]

    def to_env(self, action: Tensor) -> npt.NDArray[np.floating[Any]]:
        """Return actions in the environment's units, one row for each environment."""
        return self.agents[0].to_env(action)

    def update_from_replay(self) -> dict[str, Tensor]:
        """Take one update of every member and return the metrics, one number for each."""
        places = torch.stack([agent.draw_places(self.replay.size) for agent in self.agents])
        return self.update(self.replay.batch(places))

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """Take one update of every member on its own transitions, ``[members, batch, …]``."""
        rows = batch.reward.shape[1]
        noises = [(agent.draw_noise(rows), agent.draw_noise(rows)) for agent in self.agents]
        noise = (torch.stack([pair[0] for pair in noises]), torch.stack([pair[1] for pair in noises]))
        if self.settings.normalize_obs:
            batch = batch._replace(obs=self._normalized(batch.obs), next_obs=self._normalized(batch.next_obs))
        return self.learner.update(batch, noise, self._masks(rows))

    def check_finite(self) -> None:
        """Wait for the device and see whether all losses so far were finite.

        Raises:
            FloatingPointError: if one was not.
        """
        if not bool(self.learner.finite):
            raise FloatingPointError("a loss of the critics or the actor of a member was not finite")

    def training_state(self, *, replay: bool = True) -> dict[str, Any]:
        """Return everything that learning changes, but the environments and the random streams."""
        state = {
            "models": [agent.state_dict() for agent in self.agents],
            "temperature": self.temperature.state_dict(),
            "learner": self.learner.state_dict(),
        }
        return {**state, "replay": self.replay.state_dict()} if replay else state

    def load_training_state(self, state: Mapping[str, Any]) -> None:
        """Continue where `training_state` was called."""
        for agent, saved in zip(self.agents, state["models"], strict=True):
            agent.load_state_dict(saved)
        self.temperature.load_state_dict(state["temperature"])
        self.learner.load_state_dict(state["learner"])
        if "replay" in state:
            self.replay.load_state_dict(state["replay"])

    def _normalized(self, obs: Tensor) -> Tensor:
        if not self.settings.normalize_obs:
            return obs
        return torch.stack([agent.normalized(rows) for agent, rows in zip(self.agents, obs, strict=True)])

    def _masks(self, rows: int) -> Masks:
        if not (self.settings.actor_dropout or self.settings.critic_dropout):
            return self.agents[0].draw_masks(rows)
        drawn = [agent.draw_masks(rows) for agent in self.agents]
        several = {name: [getattr(each, name) for each in drawn] for name in ("targets", "critics", "judges")}
        return Masks(
            next_actor=_together([each.next_actor for each in drawn]),
            actor=_together([each.actor for each in drawn]),
            **{name: [_together(list(one)) for one in zip(*lists, strict=True)] for name, lists in several.items()},
        )

    def _check(self) -> None:
        if not self.agents:
            raise ValueError("agents must be at least one, got none")
        first = self.agents[0]
        for agent in self.agents[1:]:
            if (
                type(agent) is not type(first)
                or agent.settings != first.settings
                or agent.rule.outputs != first.rule.outputs
            ):
                raise ValueError(
                    f"agents must differ in seed and beta only, got {type(agent).__name__} with other settings"
                )
            if (agent.obs_space, agent.act_space) != (first.obs_space, first.act_space):
                raise ValueError(f"agents must have the same spaces, got {agent.obs_space} and {agent.act_space}")
        if len({id(agent.streams) for agent in self.agents}) < len(self.agents):
            raise ValueError("each agent must have streams of its own, got shared ones")
        if any(agent.replay.size or agent.learner.critic_optimizer.state for agent in self.agents):
            raise ValueError("agents must not have learned yet, got one that has")


def _stacked(modules: Sequence[nn.Module]) -> list[Tensor]:
    """Return the stacked parameters of networks, and make their own parameters views of them."""
    stacks, _ = torch.func.stack_module_state(list(modules))
    for index, module in enumerate(modules):
        for name, parameter in module.named_parameters():
            parameter.data = stacks[name].data[index]
    return [stacks[name] for name, _ in modules[0].named_parameters()]


def _together(masks: Sequence[Sequence[Tensor]]) -> list[Tensor]:
    return [torch.stack(list(layer)) for layer in zip(*masks, strict=True)]
