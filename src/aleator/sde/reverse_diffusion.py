"""Reverse diffusion: the chain x' = x + f_k + G_k z of a process, reversed (the ancestral predictor).

    m = x − (f_k − G_k² s),    x' = m + G_k z

For VP the chain is the same as in denoising diffusion models, see `VPSDE.discretize`. Where a process has no chain of
its own this is Euler-Maruyama.

Y. Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", ICLR 2021, appendix E.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde.processes import SDE, over_trailing
from aleator.sde.solve import Solver, States, System


@dataclass(frozen=True)
class ReverseDiffusion(Solver):
    """One evaluation of the score per step. For the other arguments and errors see `Solver`.

    Args:
        probability_flow: half the score and no noise; none is drawn.
    """

    probability_flow: bool = False

    def check(self, sdes: Sequence[SDE]) -> None:
        """Refuse processes whose chain does not exist for so few steps.

        Raises:
            ValueError: naming the process's constant and the number of steps.
        """
        for sde in sdes:
            sde.discretize(torch.ones(1), torch.ones(1), self.steps)

    def step(self, system: System, states: States, t: Float[Tensor, " batch"]) -> tuple[States, States]:
        """See `Solver.step`."""
        scores = system.scores(states, t)
        share = 0.5 if self.probability_flow else 1.0
        chains = [sde.discretize(x, t, self.steps) for sde, x in zip(system.sdes, states, strict=True)]
        means = tuple(
            x - (f - over_trailing(share * g.square(), x) * s)
            for (f, g), x, s in zip(chains, states, scores, strict=True)
        )
        if self.probability_flow:
            return means, means
        noises = system.noises(states)
        moved = tuple(mean + over_trailing(g, mean) * z for (_, g), mean, z in zip(chains, means, noises, strict=True))
        return moved, means
