"""The Langevin corrector: steps at a fixed time that move samples towards the marginal of that time.

    a = 2 α (r ‖z‖/‖s‖)²,    x' = x + a s + √(2a) c z

with a signal-to-noise ratio r, a scale c of the noise and the process's damping α. The norms are over an item's whole
state; as published they are then averaged over the batch, so that items act on each other and a sample depends on the
batch it was drawn in. ``per_graph`` leaves the average out. The step then depends on the state and its noise: for a
Gaussian in d dimensions many small steps settle at a variance of 1 + 4/d instead of 1.

Y. Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", ICLR 2021, algorithms 4
and 5; the scale is the GDSS authors' (arXiv 2202.02514).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde.processes import SDE, over_trailing
from aleator.sde.solve import States, System


@dataclass(frozen=True)
class LangevinCorrector:
    """Langevin steps at one time.

    All states move at once, each by its partial score at where all of them were. The official code agrees for one step;
    for more it runs all steps of a state against the other states as they were before the first.

    Args:
        snr: r, not negative. 0 leaves the states where they are and draws nothing.
        scale_eps: c, not negative.
        n_steps: evaluations of the score per correction, at least 1.
        per_graph: take each item's own norms instead of their means over the batch. The means are of one process's
            batch: samplers that share a request among processes want this on.

    Raises:
        ValueError: if a value is out of range.
    """

    snr: float = 0.2
    scale_eps: float = 0.7
    n_steps: int = 1
    per_graph: bool = False

    def __post_init__(self) -> None:
        for name in ("snr", "scale_eps"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must not be negative and must be finite, got {getattr(self, name)}")
        if self.n_steps < 1:
            raise ValueError(f"n_steps must be at least 1, got {self.n_steps}")

    def check(self, sdes: Sequence[SDE], steps: int) -> None:
        """Refuse processes whose damping is negative in so few steps.

        Raises:
            ValueError: naming the process's constant and the number of steps.
        """
        if self.snr > 0:
            for sde in sdes:
                sde.step_damping(torch.ones(1), steps)

    def correct(self, system: System, states: States, t: Float[Tensor, " batch"], steps: int) -> States:
        """Return the states after ``n_steps`` steps at t; ``steps`` is the N of the predictor."""
        for _ in range(self.n_steps if self.snr > 0 else 0):
            states = self.move(system, states, system.scores(states, t), t, steps)
        return states

    def move(self, system: System, states: States, scores: States, t: Float[Tensor, " batch"], steps: int) -> States:
        """Return the states after one step along scores that are already known."""
        if self.snr == 0:
            return states
        moved = []
        for x, s, z, sde in zip(states, scores, system.noises(states), system.sdes, strict=True):
            score_norm, noise_norm = s.flatten(1).norm(dim=1), z.flatten(1).norm(dim=1)
            if not self.per_graph:
                score_norm, noise_norm = score_norm.mean(), noise_norm.mean()
            # An item of padding alone has no score and no noise: it stays.
            ratio = torch.where(score_norm > 0, noise_norm / score_norm, 0)
            size = 2 * sde.step_damping(t, steps) * (self.snr * ratio).square()
            moved.append(x + over_trailing(size, x) * s + over_trailing((2 * size).sqrt() * self.scale_eps, x) * z)
        return tuple(moved)
