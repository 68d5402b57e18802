"""Following a reward's gradient while sampling: the noise is what makes room for it.

A flow that is steered by r_s towards q_s(x) ∝ p_s(x) exp(r_s(x)/β) keeps its transport v, and where its noise is made
up for by the score of p_s takes that of q_s. The mean of a step of length h from x with noise level σ then moves by

    λ h ∇r_s(x),    λ = σ² / (2 β).

By itself this does not sample q. The weights of the paths do the rest,

    d log w = [dr/dτ + u · ∇r] / β dτ,    u = −v, τ = 1 − s,

provided r is constant at s = 1: the weighted endpoints are p₀ exp(r₀/β)/Z. Training uses no weights.

R. Zhong et al., "Euphonium: Steering Video Flow Matching via Process Reward Gradient Guided Stochastic Dynamics", arXiv
2602.04928; transport and weights as in M. S. Albergo and E. Vanden-Eijnden, "NETS: A Non-Equilibrium Transport
Sampler", arXiv 2410.02711. The switches are those of the official program; the weights are the house's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from aleator.sde.processes import over_trailing


@dataclass(frozen=True)
class RewardGuidance:
    """How far, and in which steps of a rollout, means follow the gradient of a process reward.

    Args:
        scale: λ itself, not negative. Give this or ``beta``.
        beta: β, positive: λ = σ²/(2 β) with the noise of the step.
        times_dt: multiply by the length of the step, as the equation has it; the official default does not.
        normalize: divide a sample's gradient by its norm.
        start: the first step that is guided.
        end: the first step that is no longer guided; None guides to the end.
        interval: guide every so many steps from ``start`` on.

    Raises:
        ValueError: if not exactly one of ``scale`` and ``beta`` is given, or a value is out of range.
    """

    scale: float | None = None
    beta: float | None = None
    times_dt: bool = True
    normalize: bool = False
    start: int = 0
    end: int | None = None
    interval: int = 1

    def __post_init__(self) -> None:
        if (self.scale is None) == (self.beta is None):
            raise ValueError("either scale or beta must be given, got " + ("neither" if self.beta is None else "both"))
        if self.scale is not None and not 0 <= self.scale < math.inf:
            raise ValueError(f"scale must not be negative and must be finite, got {self.scale}")
        if self.beta is not None and not 0 < self.beta < math.inf:
            raise ValueError(f"beta must be positive and finite, got {self.beta}")
        if self.start < 0:
            raise ValueError(f"start must not be negative, got {self.start}")
        if self.end is not None and self.end < self.start:
            raise ValueError(f"end must be at least start = {self.start}, got {self.end}")
        if self.interval < 1:
            raise ValueError(f"interval must be at least 1, got {self.interval}")

    def acts(self, step: int) -> bool:
        """Return whether a rollout's step is guided; steps are counted from 0 at the noise."""
        inside = step >= self.start and (self.end is None or step < self.end)
        return inside and (step - self.start) % self.interval == 0 and self.scale != 0

    def shift(
        self,
        reward_grad: Float[Tensor, "batch ..."],
        sigma: Float[Tensor, " batch"],
        h: Float[Tensor, " batch"],
    ) -> Float[Tensor, "batch ..."]:
        """Return what is added to the mean of a step.

        Args:
            reward_grad: ∇r, in float32 or float64. A sample whose gradient is 0 is not moved.
            sigma: the noise level σ of the step.
            h: its length.
        """
        factor = sigma.square() / (2 * self.beta) if self.beta is not None else sigma.new_full((), self.scale or 0.0)
        if self.times_dt:
            factor = factor * h
        if self.normalize:
            norms = reward_grad.reshape(len(reward_grad), reward_grad.shape[1:].numel()).norm(dim=1)
            reward_grad = reward_grad / over_trailing(norms + 1e-8, reward_grad)
        return over_trailing(factor.expand(len(reward_grad)), reward_grad).to(reward_grad.dtype) * reward_grad
