"""One loop for every sampler: coupled states, run backwards in time through their partial scores.

States x¹, x², … with processes of their own are coupled through the gradients of their joint density alone:

    dxⁱ = [fⁱ(xⁱ, t) − gⁱ(t)² ∇ᵢ log p_t(x¹, x², …)] dt + gⁱ(t) dwⁱ,    t: 1 → 0.

A single state is a tuple of one. The score is any callable (states, t) → partial scores; a solver is a grid of times
and a step from one to the next.

J. Jo, S. Lee, S. J. Hwang, "Score-based Generative Modeling of Graphs via the System of Stochastic Differential
Equations", ICML 2022, arXiv 2202.02514, section 3.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde.noise import Generator, Noise, gaussian_noise
from aleator.sde.processes import SDE

States: TypeAlias = tuple[Tensor, ...]
Score: TypeAlias = Callable[[States, Tensor], States]
Constrain: TypeAlias = Callable[[States], States]


class System:
    """The reversed processes with their score and their noise: what a solver steps. Evaluations are counted in `nfe`.

    See `solve` for the arguments.
    """

    def __init__(
        self, score: Score, sdes: Sequence[SDE], generator: Generator, noise: Noise, constrain: Constrain | None
    ) -> None:
        self.sdes = tuple(sdes)
        self.nfe = 0
        self._score, self._generator, self._noise = score, generator, noise
        self._constrain = constrain

    def constrain(self, states: States) -> States:
        """Return the states with what does not exist set to zero."""
        return states if self._constrain is None else self._constrain(states)

    def scores(self, states: States, t: Float[Tensor, " batch"]) -> States:
        """Evaluate the partial scores, constrained.

        Raises:
            ValueError: if they are not of the states' shapes.
        """
        self.nfe += 1
        scores = tuple(self._score(states, t))
        shapes = [tuple(s.shape) for s in scores]
        if shapes != [tuple(x.shape) for x in states]:
            raise ValueError(f"score must return shapes {[tuple(x.shape) for x in states]}, got {shapes}")
        return self.constrain(scores)

    def noises(self, states: States) -> States:
        """Draw standard noise for every state, in their order, constrained."""
        return self.constrain(tuple(self._noise(x, i, self._generator) for i, x in enumerate(states)))

    def noise(self, states: States, index: int) -> Tensor:
        """Draw standard noise for one state alone, constrained."""
        drawn = self._noise(states[index], index, self._generator)
        others = (torch.zeros_like(x) for x in states)
        return self.constrain(tuple(drawn if i == index else zero for i, zero in enumerate(others)))[index]


@dataclass(frozen=True)
class Solver(ABC):
    """A grid of times and a step; `solve` is the loop.

    Args:
        steps: N, at least 1. The grid is linspace(1, eps, N) and a step is of length 1/N, as published: the last one
            ends at eps − 1/N. With eps = 1/N grid and step agree.
        eps: the last time of the grid, in (0, 1).
        denoise: return the mean of the last step, without its noise.

    Raises:
        ValueError: if a value is out of range.
    """

    steps: int = 1000
    _: KW_ONLY
    eps: float = 1e-4
    denoise: bool = True

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 0 < self.eps < 1:
            raise ValueError(f"eps must be in (0, 1), got {self.eps}")

    def times(self, like: Tensor) -> Float[Tensor, " steps"]:
        """Return the grid, on the device and in the precision of ``like``."""
        return torch.linspace(1, self.eps, self.steps, dtype=like.dtype, device=like.device)

    def check(self, sdes: Sequence[SDE]) -> None:  # noqa: B027 — Euler refuses none
        """Refuse processes that the solver cannot reverse in its number of steps, before any work is done."""

    @abstractmethod
    def step(self, system: System, states: States, t: Float[Tensor, " batch"]) -> tuple[States, States]:
        """Return the states one step before t, and their means given what came before the step's last noise."""


@dataclass(frozen=True)
class Solution:
    """What a solver arrived at."""

    states: States
    """One tensor for each process, of the initial one's shape."""
    nfe: int
    """How often the score was evaluated, which is the number of evaluations of each state's network."""


def prior_sample(
    sdes: Sequence[SDE], like: Sequence[Tensor], *, generator: Generator, noise: Noise = gaussian_noise
) -> States:
    """Draw initial states from the priors of the processes, with the shapes, types and devices of ``like``."""
    return tuple(sde.prior_std * noise(x, i, generator) for i, (sde, x) in enumerate(zip(sdes, like, strict=True)))


@torch.no_grad()
def solve(
    score: Score,
    sdes: Sequence[SDE],
    init: Sequence[Tensor],
    solver: Solver,
    *,
    generator: Generator,
    noise: Noise = gaussian_noise,
    constrain: Constrain | None = None,
) -> Solution:
    """Run the system from t = 1 down to 0. The host does not wait for the device between steps.

    Args:
        score: (states, t of shape [batch]) → one partial score for each state.
        sdes: one process for each state.
        init: states at t = 1, such as `prior_sample` draws, each of shape [batch, ...], float32 or float64.
        solver: such as `S4` or `PredictorCorrector`.
        generator: feeds ``noise`` and nothing else. With an `aleator.random.ItemGenerator`, and a solver that treats
            items by themselves (``per_graph=True``), a sample does not depend on its batch.
        noise: draws standard noise for one state, such as noise that is symmetric.
        constrain: a linear projection of a tuple of states, such as a mask. It is applied to the initial states, to
            noise and to scores, and therefore holds at every step.

    Raises:
        ValueError: if the states do not fit the processes or hold a number that is not finite, if the score returns
            other shapes, or if the solver refuses the processes.
        NotImplementedError: if the solver needs of a process what it does not have.
    """
    states = tuple(init)
    if not states or len(states) != len(sdes):
        raise ValueError(f"init must have one state for each of {len(sdes)} processes, got {len(states)}")
    batch = len(states[0])
    for i, x in enumerate(states):
        if x.dtype not in (torch.float32, torch.float64) or len(x) != batch:
            raise ValueError(
                f"init must be float32 or float64 of {batch} items each, got {x.dtype} of {len(x)} for state {i}"
            )
        if not bool(x.isfinite().all()):
            raise ValueError(f"init must be finite, got {int((~x.isfinite()).sum())} other numbers in state {i}")
    solver.check(sdes)
    system = System(score, sdes, generator, noise, constrain)
    states = means = system.constrain(states)
    for t in solver.times(states[0]).unbind():
        states, means = solver.step(system, states, t.expand(batch))
    return Solution(means if solver.denoise else states, system.nfe)
