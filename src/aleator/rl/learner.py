"""One update of an actor and its critics: the step that all algorithms of this room share.

    1  y from the target critics, at an action the policy draws in the next state       (no gradient)
    2  the critics step on their loss against y
    3  target ← (1 − τ) target + τ critic
    4  the actor steps on −(worth − α log π), by the critics as they are now
    5  the temperature steps, by the entropy of 4

What a critic's outputs mean is a `CriticRule`: what they promise for the target, how they are trained, what the actor
climbs. Everything is elementwise in a leading axis, so an update of several agents stacked in parameters of one more
axis is the same lines. Nothing waits for the device: whether losses were finite is gathered in a tensor.

U. Özalp, arXiv 2601.00737, Algorithm 1, in the order of the official code; without pessimism, T. Haarnoja et al., arXiv
1812.05905.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from aleator.losses import td_target
from aleator.rl.dropout import dropout_masks
from aleator.rl.networks import compiled_trunk, trunk
from aleator.rl.policy import squashed_gaussian
from aleator.rl.replay import Batch
from aleator.rl.temperature import Temperature

Parameters = list[Tensor]
OptimizerFactory = Callable[[Iterable[Tensor]], torch.optim.Optimizer]
Noise = tuple[Tensor, Tensor]


@runtime_checkable
class CriticRule(Protocol):
    """What the outputs of the critics mean. ``raws`` are one tensor ``[..., batch, outputs]`` for each critic.

    Attributes:
        critics: how many there are.
        outputs: numbers that each puts out.
        zero_bias: outputs whose bias begins at 0 and not as PyTorch draws it.
    """

    @property
    def critics(self) -> int: ...  # noqa: D102

    @property
    def outputs(self) -> int: ...  # noqa: D102

    @property
    def zero_bias(self) -> tuple[int, ...]: ...  # noqa: D102

    def bootstrap(self, raws: Sequence[Tensor]) -> Tensor:
        """Return what the target takes for the value of the next state: ``[..., batch]``, or one more axis."""
        ...

    def loss(self, raws: Sequence[Tensor], target: Tensor) -> Tensor:
        """Return the loss of all critics for each item, ``[..., batch]``, against what was made of `bootstrap`."""
        ...

    def worth(self, raws: Sequence[Tensor]) -> Tensor:
        """Return what the actor climbs, ``[..., batch]``."""
        ...

    def value(self, raws: Sequence[Tensor]) -> tuple[Tensor, Tensor | None]:
        """Return the estimate of the value, and its deviation where the critics have one."""
        ...


@dataclasses.dataclass(frozen=True)
class Masks:
    """The dropout masks of one update; an empty list is no dropout."""

    next_actor: list[Tensor]
    targets: list[list[Tensor]]
    critics: list[list[Tensor]]
    actor: list[Tensor]
    judges: list[list[Tensor]]  # the critics in the actor's step


class Learner:
    """Networks, of one agent or of several stacked, with their optimizers and temperature.

    Args:
        rule: what the critics' outputs mean.
        actor: parameters of the actor.
        critics: parameters of each critic.
        targets: parameters of each target critic.
        temperature: α.
        gamma: discount.
        tau: how far targets move.
        optimizer: makes an optimizer of parameters.
        compiled: whether passes of the networks are compiled.
    """

    def __init__(
        self,
        rule: CriticRule,
        actor: Parameters,
        critics: Sequence[Parameters],
        targets: Sequence[Parameters],
        temperature: Temperature,
        *,
        gamma: float,
        tau: float,
        optimizer: OptimizerFactory,
        compiled: bool = False,
    ) -> None:
        self.rule, self.actor, self.critics, self.targets = rule, actor, list(critics), list(targets)
        self.temperature, self.gamma, self.tau, self.compiled = temperature, gamma, tau, compiled
        self._critic_parameters = [parameter for critic in critics for parameter in critic]
        self._target_parameters = [parameter for target in targets for parameter in target]
        self.critic_optimizer = optimizer(self._critic_parameters)
        self.actor_optimizer = optimizer(actor)
        self.finite = torch.ones((), dtype=torch.bool, device=actor[0].device)

    def update(self, batch: Batch, noise: Noise, masks: Masks) -> dict[str, Tensor]:
        """Take one step and return its metrics, one number for each member.

        Args:
            batch: transitions, with observations as the networks want them.
            noise: standard normal, for the next action and for the actor's.
            masks: of dropout.
        """
        rule, alpha = self.rule, self.temperature.alpha.unsqueeze(-1)
        with torch.no_grad():
            raw = self._trunk(self.actor, batch.next_obs, masks.next_actor)
            next_action, next_log_prob = squashed_gaussian(raw, noise[0])
            raws = self._judged(self.targets, batch.next_obs, next_action, masks.targets)
            target = self._target(batch, rule.bootstrap(raws), next_log_prob, alpha)

        raws = self._judged(self.critics, batch.obs, batch.action, masks.critics)
        critic_loss = rule.loss(raws, target).mean(-1)
        _step(self.critic_optimizer, self._critic_parameters, critic_loss)
        with torch.no_grad():
            torch._foreach_lerp_(self._target_parameters, self._critic_parameters, self.tau)

        action, log_prob = squashed_gaussian(self._trunk(self.actor, batch.obs, masks.actor), noise[1])
        worth = rule.worth(self._judged(self.critics, batch.obs, action, masks.judges))
        entropy = -log_prob.mean(-1)
        actor_loss = -worth.mean(-1) - self.temperature.alpha * entropy
        _step(self.actor_optimizer, self.actor, actor_loss)
        entropy = entropy.detach()
        self.temperature.step(entropy)
        return self._metrics(raws, critic_loss.detach(), actor_loss.detach(), entropy)

    def draw_masks(
        self, rows: int, actor_dropout: float, critic_dropout: float, target_dropout: bool, generator: torch.Generator
    ) -> Masks:
        """Return the masks of one update of one agent, those of one probability in one draw."""
        hidden, dtype = self._widths, self.actor[0].dtype
        count = len(self.critics)
        probabilities = [actor_dropout, *[critic_dropout if target_dropout else 0.0] * count]
        probabilities += [*[critic_dropout] * count, actor_dropout, *[critic_dropout] * count]
        passes: list[list[Tensor]] = [[] for _ in probabilities]
        for p in sorted(set(probabilities) - {0.0}):
            places = [index for index, value in enumerate(probabilities) if value == p]
            shapes = [(rows, width) for _ in places for width in hidden]
            drawn = dropout_masks(shapes, p, generator, dtype=dtype)
            for order, index in enumerate(places):
                passes[index] = drawn[order * len(hidden) : (order + 1) * len(hidden)]
        first, second = 1 + count, 1 + 2 * count
        return Masks(passes[0], passes[1:first], passes[first:second], passes[second], passes[second + 1 :])

    def draw_actor_masks(self, rows: int, p: float, generator: torch.Generator) -> list[Tensor]:
        """Return the actor's masks for one pass; none without dropout."""
        if p == 0:
            return []
        return dropout_masks([(rows, width) for width in self._widths], p, generator, dtype=self.actor[0].dtype)

    def state_dict(self) -> dict[str, Any]:
        """Return the state of the optimizers, and whether all losses were finite."""
        return {name: optimizer.state_dict() for name, optimizer in self._optimizers().items()} | {
            "finite": self.finite.clone()
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        for name, optimizer in self._optimizers().items():
            # PyTorch's optimizers would go on in the very tensors that they are given.
            optimizer.load_state_dict(copy.deepcopy(state[name]))
        self.finite.copy_(state["finite"])

    def _optimizers(self) -> dict[str, torch.optim.Optimizer]:
        found = {"critic": self.critic_optimizer, "actor": self.actor_optimizer}
        moving = self.temperature.optimizer
        return found if moving is None else {**found, "temperature": moving}

    @property
    def _widths(self) -> list[int]:
        return [weight.shape[-2] for weight in self.actor[:-2:4]]

    @property
    def _trunk(self) -> Callable[..., Tensor]:
        return compiled_trunk() if self.compiled else trunk

    def _judged(
        self, critics: Sequence[Parameters], obs: Tensor, action: Tensor, masks: Sequence[list[Tensor]]
    ) -> list[Tensor]:
        both = torch.cat([obs, action], -1)
        return [self._trunk(critic, both, mask) for critic, mask in zip(critics, masks, strict=True)]

    def _target(self, batch: Batch, value: Tensor, log_prob: Tensor, alpha: Tensor) -> Tensor:
        reward, terminated = batch.reward, batch.terminated
        if value.dim() > reward.dim():  # quantiles, which share the rest
            reward, terminated, log_prob = (
                part.unsqueeze(-1).expand_as(value) for part in (reward, terminated, log_prob)
            )
            alpha = alpha.unsqueeze(-1)
        return td_target(reward, terminated, value, log_prob, self.gamma, alpha)

    def _metrics(
        self, raws: Sequence[Tensor], critic_loss: Tensor, actor_loss: Tensor, entropy: Tensor
    ) -> dict[str, Tensor]:
        with torch.no_grad():
            self.finite.logical_and_(torch.isfinite(critic_loss + actor_loss).all())
            mean, std = self.rule.value(raws)
            metrics = {"q_loss": critic_loss, "q_mean": mean.mean(-1), "pi_loss": actor_loss, "entropy": entropy}
            if std is not None:
                metrics["q_std"] = std.mean(-1)
        return {**metrics, "alpha": self.temperature.alpha.clone()}


def _step(optimizer: torch.optim.Optimizer, parameters: Sequence[Tensor], losses: Tensor) -> None:
    """Step along the gradient of these parameters alone; members' losses are added and do not meet."""
    gradients = torch.autograd.grad(losses.sum(), parameters)
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    optimizer.step()
