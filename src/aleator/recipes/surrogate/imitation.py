"""The task behind online imitation in the recipe ``surrogate``: a learner acts, an expert says what it would have done.

A round collects states under the learner, asks the expert about all of them, and uses the answers for one update
(DAgger without the expert's own states and without earlier rounds: online gradient descent). A call is a round, with
the states and the questions that it costs. What is compared is the loss of the fresh states before the update, averaged
over the rounds. Streams: ``system`` for the linear system, ``rounds`` for starts and noise, ``init`` for the weights.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.linalg
import torch
from accelerate import Accelerator
from jaxtyping import Float
from torch import Tensor

from aleator.experiment import Budget, Headline, Split, StepResult
from aleator.optim import SMOOTH_STEP
from aleator.random import Streams
from aleator.recipes.surrogate.system import Policy, System
from aleator.recipes.surrogate.updates import TargetUpdates, model_of

if TYPE_CHECKING:
    from aleator.recipes.surrogate.options import Surrogate

LATE_ROUNDS = 5


class ImitationTask:
    """A policy that an expert's answers update; see `aleator.experiment.Task`."""

    headline = Headline("round_loss", "min")

    def __init__(self, options: Surrogate, streams: Streams, accelerator: Accelerator) -> None:
        self.budget = Budget(options.calls, "calls")
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.device = accelerator.device
        self.system = _system(options.problem, streams)
        self.model = model_of(options, self.system.observations, self.system.actions).to(self.device)
        self.updates = TargetUpdates(self.model, options, SMOOTH_STEP["squared"])
        self.losses: list[float] = []

    def train_batches(self) -> Iterator[None]:
        """Yield nothing, without end: a round's data depend on the model."""
        return itertools.repeat(None)

    def train_step(self, batch: None) -> StepResult:
        """Act, ask, update."""
        observed, answers = (t.to(self.device, self.dtype) for t in self.system.collect(self._act))
        with torch.no_grad():
            self.losses.append(float((self.model(observed) - answers).square().mean()))
        result = self.updates(observed, functools.partial(_squared, answers))
        result.metrics = {**result.metrics, "round_loss": torch.tensor(self.losses[-1], dtype=torch.float64)}
        return result

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the mean loss over all rounds and over the last ones, counts, and figures of the policy as it is."""
        late = self.losses[-LATE_ROUNDS:]
        means = {"round_loss": _mean(self.losses), "late_round_loss": _mean(late)}
        return means | self.system.measure(self._act) | self.totals()

    def totals(self) -> dict[str, float]:
        """Return the counts, for every line of the log."""
        return self.updates.totals()

    def state_dict(self) -> dict[str, Any]:
        """Return weights, the method's state and the losses of the rounds."""
        return {**self.updates.state_dict(), "losses": list(self.losses)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.updates.load_state_dict(state)
        self.losses = list(state["losses"])

    @torch.no_grad()
    def _act(self, observed: Tensor) -> Tensor:
        actions: Tensor = self.model(observed.to(self.device, self.dtype))
        return actions.to("cpu", torch.float64)


class LinearSystem:
    """An unstable linear system of six dimensions with noise, observed on scales from 0.1 to 10.

        s' = A s + B a + 0.05 ε,    A = I + 0.1·Gauss with spectral radius 1.02,    B = 0.3·Gauss

    The expert is 3·tanh(−Ks), K from the discrete Riccati equation with Q = I and R = 0.1·I. Twenty trajectories of ten
    steps are a round; they begin at N(0, I) in each round, and again whenever ‖s‖ > 20.

    Args:
        system: makes A and B.
        rounds: makes starts and noise.
    """

    observations, actions = 6, 2
    trajectories, steps = 20, 10

    def __init__(self, system: torch.Generator, rounds: torch.Generator) -> None:
        self.generator = rounds
        a = np.eye(6) + 0.1 * torch.randn(6, 6, generator=system, dtype=torch.float64).numpy()
        a *= 1.02 / np.abs(np.linalg.eigvals(a)).max()
        b = 0.3 * torch.randn(6, 2, generator=system, dtype=torch.float64).numpy()
        q, r = np.eye(6), 0.1 * np.eye(2)
        p = scipy.linalg.solve_discrete_are(a, b, q, r)
        gain = np.linalg.solve(r + b.T @ p @ b, b.T @ p @ a)
        self.a, self.b, self.gain = (torch.from_numpy(m) for m in (a, b, gain))
        self.scales = 10 ** torch.linspace(-1, 1, 6, dtype=torch.float64)

    def expert(self, states: Float[Tensor, "n 6"]) -> Float[Tensor, "n 2"]:
        """Return what the expert does."""
        return 3 * torch.tanh(-states @ self.gain.T)

    def collect(self, policy: Policy) -> tuple[Tensor, Tensor]:
        """Act in a round; see `System`."""
        states = [self._normal(self.trajectories, 6)]
        for _ in range(self.steps - 1):
            actions = policy(states[-1] * self.scales)
            s = states[-1] @ self.a.T + actions @ self.b.T + 0.05 * self._normal(self.trajectories, 6)
            anew = self._normal(self.trajectories, 6)
            # Written so that a NaN begins anew, too.
            states.append(torch.where(s.norm(dim=1, keepdim=True) <= 20, s, anew))
        seen = torch.cat(states)
        return seen * self.scales, self.expert(seen)

    def measure(self, policy: Policy) -> dict[str, float]:
        """Return nothing: rounds say all."""
        return {}

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator, dtype=torch.float64)


def _system(problem: str, streams: Streams) -> System:
    rounds = streams.generator("rounds")
    if problem == "linear-imitation":
        return LinearSystem(streams.generator("system"), rounds)
    from aleator.recipes.surrogate.pendulum import Pendulum

    return Pendulum(rounds)


def _squared(answers: Tensor, targets: Tensor) -> Tensor:
    return (targets - answers).square().sum(1)


def _mean(values: list[float]) -> float:
    return math.fsum(values) / len(values)
