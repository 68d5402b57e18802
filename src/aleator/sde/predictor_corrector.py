"""Predictor-corrector: at every time Langevin steps first, then a step of the reversed equation.

Both move all coupled states at once from where all of them were, unless the corrector is asked for the authors' order.
One step costs 1 + n_steps evaluations of the score.
Noise is drawn for the corrector, all states in their order, then for the predictor.

Y. Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", ICLR 2021, algorithm 1, on
a system of states as in J. Jo et al., arXiv 2202.02514.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from jaxtyping import Float
from torch import Tensor

from aleator.sde.euler_maruyama import EulerMaruyama
from aleator.sde.langevin import LangevinCorrector, Order
from aleator.sde.processes import SDE
from aleator.sde.reverse_diffusion import ReverseDiffusion
from aleator.sde.solve import Solver, States, System


@dataclass(frozen=True)
class PredictorCorrector(Solver):
    """A predictor after a corrector. For the other arguments and errors see `Solver`.

    Args:
        predictor: ``"euler"``, see `EulerMaruyama`, or ``"ancestral"``, see `ReverseDiffusion`.
        corrector: ``"langevin"``, see `LangevinCorrector`, or none.
        n_steps: see `LangevinCorrector`, as for the following.
        snr: the signal-to-noise ratio.
        scale_eps: the scale of the corrector's noise.
        per_graph: norms of each item instead of means over the batch.
        probability_flow: of the predictor; the corrector's noise stays.
        order: of the corrector's steps, where there are several: ``"simultaneous"``, or ``"official"`` as in the GDSS
            authors' code; see `LangevinCorrector`.
    """

    predictor: Literal["euler", "ancestral"] = "euler"
    corrector: Literal["langevin"] | None = "langevin"
    n_steps: int = 1
    snr: float = 0.2
    scale_eps: float = 0.7
    per_graph: bool = False
    probability_flow: bool = False
    order: Order = "simultaneous"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.predictor not in ("euler", "ancestral"):
            raise ValueError(f'predictor must be "euler" or "ancestral", got {self.predictor!r}')
        if self.corrector not in ("langevin", None):
            raise ValueError(f'corrector must be "langevin" or None, got {self.corrector!r}')
        self._langevin()

    def check(self, sdes: Sequence[SDE]) -> None:
        """Refuse what the predictor or the corrector refuses.

        Raises:
            ValueError: naming the process's constant and the number of steps.
        """
        self._predictor().check(sdes)
        if self.corrector is not None:
            self._langevin().check(sdes, self.steps)

    def step(self, system: System, states: States, t: Float[Tensor, " batch"]) -> tuple[States, States]:
        """See `Solver.step`."""
        if self.corrector is not None:
            states = self._langevin().correct(system, states, t, self.steps)
        return self._predictor().step(system, states, t)

    def _langevin(self) -> LangevinCorrector:
        return LangevinCorrector(self.snr, self.scale_eps, self.n_steps, self.per_graph, self.order)

    def _predictor(self) -> Solver:
        kind = EulerMaruyama if self.predictor == "euler" else ReverseDiffusion
        return kind(self.steps, eps=self.eps, probability_flow=self.probability_flow)
