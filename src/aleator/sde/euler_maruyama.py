"""Euler-Maruyama: the reversed equation, one step of length 1/N at a time.

    m = x − (f(x, t) − g(t)² s)/N,    x' = m + g(t) z/√N

With half the score and no noise it follows the probability flow, an ordinary equation with the same marginals. The
error of the solution's moments is of order 1/N.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from aleator.sde.processes import over_trailing
from aleator.sde.solve import Solver, States, System


@dataclass(frozen=True)
class EulerMaruyama(Solver):
    """One evaluation of the score per step. For the other arguments and errors see `Solver`.

    Args:
        probability_flow: half the score and no noise; none is drawn.
    """

    probability_flow: bool = False

    def step(self, system: System, states: States, t: Float[Tensor, " batch"]) -> tuple[States, States]:
        """See `Solver.step`."""
        scores = system.scores(states, t)
        share = 0.5 if self.probability_flow else 1.0
        diffusions = [sde.diffusion(t) for sde in system.sdes]
        means = tuple(
            x - (sde.drift(x, t) - over_trailing(share * g.square(), x) * s) / self.steps
            for sde, x, s, g in zip(system.sdes, states, scores, diffusions, strict=True)
        )
        if self.probability_flow:
            return means, means
        noises = system.noises(states)
        moved = tuple(
            mean + over_trailing(g / math.sqrt(self.steps), mean) * z
            for mean, g, z in zip(means, diffusions, noises, strict=True)
        )
        return moved, means
