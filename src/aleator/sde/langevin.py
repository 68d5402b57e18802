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
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde.processes import SDE, over_trailing
from aleator.sde.solve import States, System

Order: TypeAlias = Literal["simultaneous", "official"]


@dataclass(frozen=True)
class LangevinCorrector:
    """Langevin steps at one time.

    With several steps the two orders differ. ``"simultaneous"``: in each step all states move at once, each by its
    partial score at where all of them are by then. ``"official"``, as in the GDSS authors' code: all steps of a state,
    with the others where they were before the first step of any, then all steps of the next; noise is drawn in this
    order. It takes n_steps evaluations of each state's network too, but a score that gives all states' at once is
    evaluated 1 + (n_steps − 1) times the number of states.

    Args:
        snr: r, not negative. 0 leaves the states where they are and draws nothing.
        scale_eps: c, not negative.
        n_steps: evaluations of the score per correction, at least 1.
        per_graph: take each item's own norms instead of their means over the batch. The means are of one process's
            batch: samplers that share a request among processes want this on.
        order: see above.

    Raises:
        ValueError: if a value is out of range.
    """

    snr: float = 0.2
    scale_eps: float = 0.7
    n_steps: int = 1
    per_graph: bool = False
    order: Order = "simultaneous"

    def __post_init__(self) -> None:
        if self.order not in ("simultaneous", "official"):
            raise ValueError(f'order must be "simultaneous" or "official", got {self.order!r}')
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
        if self.order == "official" and self.snr > 0:
            return self._one_after_the_other(system, states, t, steps)
        for _ in range(self.n_steps if self.snr > 0 else 0):
            states = self.move(system, states, system.scores(states, t), t, steps)
        return states

    def move(self, system: System, states: States, scores: States, t: Float[Tensor, " batch"], steps: int) -> States:
        """Return the states after one step along scores that are already known."""
        if self.snr == 0:
            return states
        noises = system.noises(states)
        return tuple(
            self._moved(x, s, z, sde.step_damping(t, steps))
            for x, s, z, sde in zip(states, scores, noises, system.sdes, strict=True)
        )

    def _one_after_the_other(self, system: System, states: States, t: Tensor, steps: int) -> States:
        before, corrected = system.scores(states, t), []
        for i, sde in enumerate(system.sdes):
            now, scores = states, before
            for step in range(self.n_steps):
                if step:
                    scores = system.scores(now, t)
                moved = self._moved(now[i], scores[i], system.noise(now, i), sde.step_damping(t, steps))
                now = (*states[:i], moved, *states[i + 1 :])
            corrected.append(now[i])
        return tuple(corrected)

    def _moved(self, x: Tensor, s: Tensor, z: Tensor, damping: Tensor) -> Tensor:
        score_norm, noise_norm = s.flatten(1).norm(dim=1), z.flatten(1).norm(dim=1)
        if not self.per_graph:
            score_norm, noise_norm = score_norm.mean(), noise_norm.mean()
        # An item of padding alone has no score and no noise: it stays. What is not a number does not.
        ratio = torch.where(score_norm == 0, 0, noise_norm / score_norm)
        size = 2 * damping * (self.snr * ratio).square()
        return x + over_trailing(size, x) * s + over_trailing((2 * size).sqrt() * self.scale_eps, x) * z
