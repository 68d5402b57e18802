"""Rewards: of finished samples, by name, and the gradient of one that nobody can differentiate.

An outcome reward is a callable (samples, condition) → numbers by name, one for each sample. Something that is not
finite is refused with the name of its reward: taken for a 0 it would poison its whole group.

Where a reward is a black box, two evaluations at ± ε u give the slope along u, and with it for each sample

    g = (r(x̂₀ + ε u) − r(x̂₀ − ε u)) / (2 ε) u,    E g = ∇r + O(ε²)  for u ~ N(0, I).

J. C. Spall, 1992; as a term of the guidance in the program of Euphonium, arXiv 2602.04928, where it is off.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde import Generator, Noise, RewardGuidance, gaussian_noise, over_trailing

OutcomeReward = Callable[[Any, Any], Mapping[str, Tensor]]
BlackBox = Callable[[Tensor, Any], Tensor]


def outcome_rewards(reward: OutcomeReward, samples: Any, condition: Any = None) -> dict[str, Float[Tensor, " batch"]]:
    """Evaluate a reward, without gradient.

    Args:
        reward: (samples, condition) → tensors of shape [batch] by name.
        samples: what is judged, such as decoded videos.
        condition: what they were made for.

    Raises:
        ValueError: if there is no reward, one is no tensor of shape [batch], or one is not finite.
    """
    with torch.no_grad():
        return checked_rewards(reward(samples, condition))


def checked_rewards(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return rewards in at least float32.

    Raises:
        ValueError: if there is none, one is no tensor, shapes differ or are not [batch], or one is not finite; with its
            name.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"a reward must return tensors by name, got {type(values).__name__}")
    if not values:
        raise ValueError("a reward must return at least one tensor by name, got none")
    for name, value in values.items():
        if not isinstance(value, Tensor):
            raise ValueError(f"reward {name} must be a tensor, got {type(value).__name__}")
    batch = len(next(iter(values.values())).reshape(-1))
    found = {}
    for name, value in values.items():
        if value.shape != (batch,):
            raise ValueError(f"reward {name} must be of shape {(batch,)}, got {tuple(value.shape)}")
        value = value.detach().to(torch.promote_types(value.dtype, torch.float32))
        if not bool(value.isfinite().all()):
            wrong = ~value.isfinite()
            raise ValueError(
                f"reward {name} must be finite, got {float(value[wrong][0]):g} for sample {int(wrong.nonzero()[0])}"
            )
        found[name] = value
    return found


@dataclass(frozen=True)
class ZeroOrderGuidance:
    """Guidance by a reward of the guessed data that needs no gradient, beside or instead of a process reward.

    Args:
        reward: (guessed data, condition) → one number for each sample.
        guidance: how far means follow it, and in which steps.
        eps: ε, positive.
        samples: directions over which slopes are averaged, two evaluations of the reward each.

    Raises:
        ValueError: if a value is out of range.
    """

    reward: BlackBox
    guidance: RewardGuidance
    eps: float = 0.01
    samples: int = 1

    def __post_init__(self) -> None:
        if not 0 < self.eps < math.inf:
            raise ValueError(f"eps must be positive and finite, got {self.eps}")
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")

    @torch.no_grad()
    def gradient(
        self,
        x0: Float[Tensor, "batch ..."],
        cond: Any,
        *,
        generator: Generator,
        noise: Noise = gaussian_noise,
    ) -> Float[Tensor, "batch ..."]:
        """Return the estimate of ∇r for each sample, whatever the other samples are.

        It is not `aleator.gradients.spsa`, which has one loss for all it displaces: here a batch has a slope for each
        sample, from one evaluation of them all on either side.

        Raises:
            ValueError: if the reward is not of shape [batch] or not finite.
        """
        total = torch.zeros_like(x0)
        for _ in range(self.samples):
            u = noise(x0, 0, generator)
            sides = {
                f"beside the guessed data ({sign:+d} eps)": self.reward(x0 + sign * self.eps * u, cond)
                for sign in (1, -1)
            }
            plus, minus = checked_rewards(sides).values()
            if len(plus) != len(x0):
                raise ValueError(f"reward must be one number for each of {len(x0)} samples, got {len(plus)}")
            slopes = (plus.double() - minus.double()) / (2 * self.eps)
            total += over_trailing(slopes, x0).to(x0.dtype) * u
        return total / self.samples
