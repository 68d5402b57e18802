"""Agents that learn to control an environment: STAC next to SAC, ESTAC and DSAC, which share everything but the critic.

This file holds the options, `aleator.recipes.control.task` the task. Defaults are for a laptop: networks of 64 units on
the pendulum. The authors' are widths of 256, batches of 256, a learning rate of 3e-4 and 10 000 steps before learning
starts; β and dropout for their environments are in `aleator.rl.published_settings`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from aleator.experiment import Task
from aleator.later import named
from aleator.recipes.parts.checks import not_negative, positive, refuse_unless

if TYPE_CHECKING:
    from accelerate import Accelerator

    from aleator.random import Streams


@dataclass(frozen=True)
class Control:
    """Learn to act in an environment, by one critic that knows how noisy its targets are (STAC), or by two (SAC)."""

    env: str = "Pendulum-v1"
    """An environment of gymnasium with continuous actions, by its name: Pendulum-v1, RiskyPointMass-v0, Hopper-v5, …"""
    steps: int = 10_000
    """Environment steps, of each member."""

    # --- the algorithm
    algorithm: Literal["stac", "sac", "estac", "dsac"] = "stac"
    """One Gaussian critic with pessimism; two critics; two Gaussian critics; two critics of quantiles."""
    beta: float | None = None
    """STAC's pessimism: deviations of the target that are subtracted. Default: 0.25."""
    betas: tuple[float, ...] = ()
    """STAC's pessimism of each member, instead of one for all; figures are then given for each value, too."""
    members: int | None = None
    """Agents trained side by side in one run, each with a seed of its own; figures are means over them, and an interval
    still needs several runs. Default: one, or one for each of betas."""
    actor_dropout: float = 0.0
    """Probability that a hidden unit of the actor is dropped while training."""
    critic_dropout: float = 0.0
    """The same for the critics."""
    target_dropout: bool | None = None
    """Whether the target critics have dropout, too. Default: yes, but for dsac."""
    temperature: Literal["exp_sgd", "exp_plain", "adam"] = "exp_sgd"
    """How the temperature of the entropy moves. A comparison should have one rule for all."""
    init_alpha: float = 0.2
    """The temperature at the beginning."""
    target_entropy: float | None = None
    """Entropy that the temperature aims at. Default: minus the number of action coordinates."""
    width: int = 64
    """Units of each of two hidden layers."""
    gamma: float = 0.99
    """Discount."""
    lr: float = 0.001
    """Learning rate of Adam and of the temperature."""
    batch_size: int = 128
    """Transitions of an update."""

    # --- experience
    learning_starts: int = 500
    """Steps with random actions before the first update."""
    replay: int | None = None
    """Transitions that are remembered, of each member. Every checkpoint has the part of them that is filled: 4 bytes
    for each of 2 · observation + action + 2 numbers, 170 MB for a million of HalfCheetah. Default: as many as steps."""
    n_envs: int = 1
    """Environments side by side, of each member."""
    train_freq: int = 1
    """Steps of all environments between updates."""
    gradient_steps: int = 1
    """Updates at a time."""
    normalize_obs: bool = False
    """Normalise observations by their running statistics, in training and evaluation."""

    # --- evaluation
    episodes: int = 8
    """Episodes of a validation, always with the same beginnings."""
    test_episodes: int = 32
    """Episodes of the test."""
    actions: Literal["mean", "average"] = "mean"
    """How the agent acts there: tanh of the policy's mean, or the mean of ten draws, for which no value error is
    known."""

    def __post_init__(self) -> None:
        """Check what can be checked without the environment.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        counts = (
            "steps",
            "members",
            "width",
            "batch_size",
            "replay",
            "n_envs",
            "train_freq",
            "gradient_steps",
            "episodes",
        )
        for name in (*counts, "test_episodes"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= self.learning_starts < self.steps:
            raise ValueError(f"learning_starts must be in [0, steps), [0, {self.steps}), got {self.learning_starts}")
        positive(self, "lr", "init_alpha")
        not_negative(self, "beta")
        refuse_unless(self.algorithm == "stac", f"algorithm {self.algorithm}", self, "beta", "betas")
        if self.target_dropout is not None and not self.critic_dropout:
            raise ValueError(f"target_dropout cannot be used with critic_dropout 0, got {self.target_dropout}")
        if self.betas:
            refuse_unless(False, "betas", self, "beta")
            if not all(0 <= beta < math.inf for beta in self.betas):
                raise ValueError(f"betas must be finite and not negative, got {' '.join(map(str, self.betas))}")
            if self.members not in (None, len(self.betas)):
                raise ValueError(f"members must be {len(self.betas)}, one for each of betas, got {self.members}")
        for name in ("actor_dropout", "critic_dropout", "gamma"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if self.target_entropy is not None and not math.isfinite(self.target_entropy):
            raise ValueError(f"target_entropy must be finite, got {self.target_entropy}")
        if self.batch_size > (self.replay or self.steps):
            kept = f"the replay, {self.replay}" if self.replay else f"steps, {self.steps}"
            raise ValueError(f"batch_size must be at most {kept}, got {self.batch_size}")

    @property
    def count(self) -> int:
        """How many members there are."""
        return len(self.betas) or self.members or 1

    def agent_settings(self, member: int) -> dict[str, Any]:
        """Return the arguments of a member's agent, besides spaces, streams and device."""
        own: dict[str, Any] = {}
        if self.algorithm == "stac":
            own["beta"] = self.betas[member] if self.betas else 0.25 if self.beta is None else self.beta
        if self.target_dropout is not None:
            own["target_dropout"] = self.target_dropout
        return {
            **own,
            "actor_dropout": self.actor_dropout,
            "critic_dropout": self.critic_dropout,
            "temperature_rule": self.temperature,
            "init_alpha": self.init_alpha,
            "target_entropy": "auto" if self.target_entropy is None else self.target_entropy,
            "net_arch": (self.width, self.width),
            "gamma": self.gamma,
            "lr": self.lr,
            "batch_size": self.batch_size,
            "learning_starts": self.learning_starts,
            "capacity": self.replay or self.steps,
            "train_freq": self.train_freq,
            "gradient_steps": self.gradient_steps,
            "normalize_obs": self.normalize_obs,
        }

    def task(self, streams: Streams, accelerator: Accelerator) -> Task:
        """Build the task; see `aleator.experiment.Recipe`."""
        if accelerator.num_processes > 1:
            raise ValueError(f"control runs in one process, got {accelerator.num_processes}")
        build = named("aleator.recipes.control.task:ControlTask")
        return build(self, streams, accelerator)  # type: ignore[no-any-return]
