"""S4, the symmetric splitting of the reversed system: one evaluation of the score per step, correction included.

A step of length h = 1/N from t evaluates the scores s once and then

    1. corrects the states by a Langevin step along s,
    2. solves the linear part exactly from t to t − h/2:    x ← a x + d z,
    3. kicks:                                               x ← x + h g(t)² s,
    4. solves the linear part from t − h/2 to t − h, with fresh noise.

The kick's scores are those from before the correction and the half step, which makes the method one of first order.
What it saves is half the evaluations of a predictor-corrector. Noise is drawn for the correction, the first half and
the second half, each for all states in their order.

J. Jo, S. Lee, S. J. Hwang, "Score-based Generative Modeling of Graphs via the System of Stochastic Differential
Equations", ICML 2022, arXiv 2202.02514, section 3.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde.langevin import LangevinCorrector
from aleator.sde.processes import SDE, over_trailing
from aleator.sde.solve import Solver, States, System


@dataclass(frozen=True)
class S4(Solver):
    """The splitting solver. For the other arguments and errors see `Solver`.

    Args:
        snr: signal-to-noise ratio of the correction, as for `LangevinCorrector`; 0 switches it off.
        scale_eps: the scale of the correction's noise.
        transition: ``"exact"`` solves the linear part, and ends at t = 0. ``"official"`` does as the authors' code: for
            VP the half step has the deviation of the forward process, and the last step, of which the grid has only the
            length eps left, runs on to eps − h < 0 with β and σ continued.
        per_graph: norms of each item instead of means over the batch.
    """

    snr: float = 0.15
    scale_eps: float = 0.7
    transition: Literal["exact", "official"] = "exact"
    per_graph: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.transition not in ("exact", "official"):
            raise ValueError(f'transition must be "exact" or "official", got {self.transition!r}')
        self._langevin()

    def check(self, sdes: Sequence[SDE]) -> None:
        """Refuse processes without a reverse transition, and steps that end where one is not a number.

        Raises:
            NotImplementedError: if a process has no reverse transition.
            ValueError: if β continued below t = 0 turns negative within the last step (official transition only).
        """
        self._langevin().check(sdes, self.steps)
        last = self._halves(torch.full((1,), 1.0 if self.steps == 1 else self.eps, dtype=torch.float64))
        for sde in sdes:
            halves = [sde.reverse_transition(*half, official=self.transition == "official")[1] for half in last]
            # The deviation of the second half is not used where the mean is asked for.
            if not all(bool(std.isfinite()) for std in halves[: 1 if self.denoise else 2]):
                raise ValueError(
                    f'steps must be larger for transition="official", whose last step leaves [0, 1] to where beta of '
                    f"{sde} is negative, got {self.steps}"
                )

    def step(self, system: System, states: States, t: Float[Tensor, " batch"]) -> tuple[States, States]:
        """See `Solver.step`."""
        scores = system.scores(states, t)
        states = self._langevin().move(system, states, scores, t, self.steps)
        first, second = self._halves(t)
        states, _ = self._half(system, states, *first)
        states = tuple(
            x + over_trailing(sde.diffusion(t).square() / self.steps, x) * s
            for sde, x, s in zip(system.sdes, states, scores, strict=True)
        )
        return self._half(system, states, *second)

    def _halves(self, t: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        middle, end = t - 0.5 / self.steps, t - 1 / self.steps
        if self.transition == "exact":
            middle, end = middle.clamp(min=0), end.clamp(min=0)
        return (t, middle), (middle, end)

    def _half(self, system: System, states: States, start: Tensor, end: Tensor) -> tuple[States, States]:
        moved, means = [], []
        for sde, x, z in zip(system.sdes, states, system.noises(states), strict=True):
            factor, std = sde.reverse_transition(start, end, official=self.transition == "official")
            means.append(over_trailing(factor, x) * x)
            moved.append(means[-1] + over_trailing(std, x) * z)
        return tuple(moved), tuple(means)

    def _langevin(self) -> LangevinCorrector:
        return LangevinCorrector(self.snr, self.scale_eps, per_graph=self.per_graph)
