"""The settings that all agents share, and those to begin with in known environments.

The table has, per environment, what the published runs of STAC used: its text and its logs disagree about the target
entropy, and the logs are what was run. β and dropout were picked on the seeds that the paper reports.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any, Literal

from aleator.rl.temperature import RULES, Rule


@dataclass(frozen=True)
class AgentSettings:
    """How an agent is made and trained.

    Attributes:
        actor_dropout: of the actor's hidden units in training and exploration, in [0, 1).
        critic_dropout: of the critics', in [0, 1).
        target_dropout: whether the target critics have dropout too.
        gamma: discount, in [0, 1).
        tau: how far the target critics move to the critics at each update, in (0, 1].
        lr: of actor, critics and temperature.
        alpha: the temperature of the entropy, or ``"auto"``.
        init_alpha: what ``"auto"`` begins with.
        target_entropy: in nats; ``"auto"`` is minus the number of action coordinates.
        temperature_rule: how ``"auto"`` moves, see `aleator.rl.temperature_step`.
        net_arch: widths of the hidden layers.
        batch_size: transitions of an update. Before there are as many, nothing is learned.
        capacity: of the replay, in transitions.
        learning_starts: environment steps with random actions and without updates.
        train_freq: steps of all environments between updates.
        gradient_steps: updates at a time.
        normalize_obs: whether observations are normalised by their running statistics.
        compile: whether the networks' passes of an update go through `torch.compile`. The first updates wait for the
            compiler; on a CPU the others are slower than without.
    """

    actor_dropout: float = 0.0
    critic_dropout: float = 0.0
    target_dropout: bool = True
    gamma: float = 0.99
    tau: float = 0.005
    lr: float = 3e-4
    alpha: float | Literal["auto"] = "auto"
    init_alpha: float = 0.2
    target_entropy: float | Literal["auto"] = "auto"
    temperature_rule: Rule = "exp_sgd"
    net_arch: Sequence[int] = (256, 256)
    batch_size: int = 256
    capacity: int = 1_000_000
    learning_starts: int = 10_000
    train_freq: int = 1
    gradient_steps: int = 1
    normalize_obs: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: naming the setting, the value got and the values accepted.
        """
        widths: object = self.net_arch
        if not isinstance(widths, Sequence) or not all(_is_whole(width) for width in widths):
            raise ValueError(f"net_arch must be a sequence of whole widths, got {self.net_arch}")
        # NumPy's numbers become Python's, which a save can hold.
        object.__setattr__(self, "net_arch", tuple(int(width) for width in self.net_arch))
        for name in ("batch_size", "capacity", "learning_starts", "train_freq", "gradient_steps"):
            if not _is_whole(getattr(self, name)):
                raise ValueError(f"{name} must be a whole number, got {getattr(self, name)}")
            object.__setattr__(self, name, int(getattr(self, name)))
        for name in ("actor_dropout", "critic_dropout", "gamma", "tau", "lr", "init_alpha"):
            if not is_number(getattr(self, name)):
                raise ValueError(f"{name} must be a number, got {getattr(self, name)!r}")
            object.__setattr__(self, name, float(getattr(self, name)))
        for name in ("actor_dropout", "critic_dropout", "gamma"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must be in [0, 1), got {getattr(self, name)}")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau must be in (0, 1], got {self.tau}")
        for name in ("lr", "init_alpha"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if self.alpha != "auto" and not (_is_finite(self.alpha) and self.alpha >= 0):
            raise ValueError(f"alpha must be auto or finite and not negative, got {self.alpha}")
        if self.target_entropy != "auto" and not _is_finite(self.target_entropy):
            raise ValueError(f"target_entropy must be auto or finite, got {self.target_entropy}")
        for name in ("alpha", "target_entropy"):
            if getattr(self, name) != "auto":
                object.__setattr__(self, name, float(getattr(self, name)))
        if self.temperature_rule not in RULES:
            raise ValueError(f"temperature_rule must be one of {', '.join(RULES)}, got {self.temperature_rule}")
        if not self.net_arch or min(self.net_arch) < 1:
            raise ValueError(f"net_arch must be widths of at least 1, got {self.net_arch}")
        for name in ("batch_size", "capacity", "train_freq", "gradient_steps"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.learning_starts < 0:
            raise ValueError(f"learning_starts must not be negative, got {self.learning_starts}")
        if self.batch_size > self.capacity:
            raise ValueError(f"batch_size must be at most capacity, {self.capacity}, got {self.batch_size}")


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether this is a real number, which a truth value is not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_finite(value: object) -> bool:
    return is_number(value) and math.isfinite(value)  # type: ignore[arg-type]


# steps, target entropy, beta, dropout of actor and critic
_PUBLISHED: dict[str, tuple[int, float, float, float, float]] = {
    "Ant": (3_000_000, -8.0, 0.25, 0.01, 0.01),
    "HalfCheetah": (3_000_000, -6.0, 0.0, 0.0, 0.0),
    "Hopper": (1_000_000, -3.0, 0.5, 0.01, 0.01),
    "Humanoid": (3_000_000, -17.0, 0.25, 0.01, 0.0),
    "Swimmer": (1_000_000, -1.0, 0.0, 0.01, 0.0),
    "Walker2d": (3_000_000, -6.0, 0.125, 0.01, 0.0),
    "BipedalWalker": (1_000_000, -4.0, 0.375, 0.0, 0.01),
    "BipedalWalkerHardcore": (3_000_000, -4.0, 0.125, 0.01, 0.0),
    "LunarLander": (1_000_000, -2.0, 0.0, 0.01, 0.01),  # with continuous=True
    "LunarLanderContinuous": (1_000_000, -2.0, 0.0, 0.01, 0.01),
}


def published_settings(env_id: str) -> dict[str, Any]:
    """Return the published arguments of `STAC` in an environment, and how many ``total_steps`` it learned for.

    Args:
        env_id: such as ``"Hopper-v5"``; the version does not matter. The paper's were v4.

    Raises:
        ValueError: if the paper has no run of it.

    Example:
        >>> published_settings("Hopper-v5")["beta"]
        0.5
    """
    name = env_id.rpartition("-v")[0] or env_id
    if name not in _PUBLISHED:
        raise ValueError(f"env_id must be a version of {', '.join(_PUBLISHED)}, got {env_id!r}")
    names = ("total_steps", "target_entropy", "beta", "actor_dropout", "critic_dropout")
    return dict(zip(names, _PUBLISHED[name], strict=True))
