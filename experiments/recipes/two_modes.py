"""Two coordinates that belong together: which scores learn it?

The data are two modes at ±(½, ½), each a Gaussian of covariance 0.01·[[1, 0.9], [0.9, 1]]. x and y are diffused and
generated as two states, as features and adjacency of a graph are, with scores of three kinds:

    joint          ∇x log p_t(x, y), ∇y log p_t(x, y)    both run down together, each seeing the other's noisy value
    sequential     ∇x log p_t(x), then ∇y log p_t(y | x_0)    x first, then y given the x that came out
    independent    ∇x log p_t(x), ∇y log p_t(y)          neither sees the other

Independent scores put half of the samples into the quadrants off the diagonal, where no data are. The networks have the
same size in all three kinds, and the kinds share initial weights, data, times and noise.

After the toy of J. Jo et al., ICML 2022, arXiv 2202.02514, with β up to 10 instead of 0.05, so that the prior is where
the process ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.losses import denoising_score_matching
from aleator.random import Streams
from aleator.sde import S4, VPSDE, EulerMaruyama, PredictorCorrector, Score, Solver, States, prior_sample, solve

CORRELATION = 0.9
SAMPLES = 10_000


@dataclass(frozen=True)
class TwoModes:
    """Learn the scores of two coupled numbers, and sample them."""

    scores: Literal["joint", "independent", "sequential"] = "joint"
    """What each of the two networks sees of the other number: its noisy value, nothing, or its final value."""
    solver: Literal["euler", "pc", "s4"] = "euler"
    """Euler-Maruyama, Euler-Maruyama after Langevin corrections, or S4."""
    solver_steps: int = 50
    """Steps of the solver; all but pc take one evaluation of each network for one."""
    beta_max: float = 10.0
    """β(1) of the variance-preserving process, whose β(0) is 0.1."""
    steps: int = 2500
    """Optimizer steps."""
    batch: int = 512
    """Fresh examples of a step."""
    width: int = 96
    """Of the two hidden layers of a network."""
    lr: float = 0.002
    """Learning rate of Adam."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        if self.solver_steps < max(2, self.beta_max):
            raise ValueError(f"solver_steps must be at least 2 and beta_max = {self.beta_max}, got {self.solver_steps}")
        for name in ("steps", "batch", "width", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")

    def task(self, streams: Streams, accelerator: Accelerator) -> TwoModesTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        return TwoModesTask(self, streams, accelerator)


class TwoModesTask:
    """Two networks in training, one for each score; see `aleator.experiment.Task`."""

    headline = Headline("off_diagonal", "min")

    def __init__(self, options: TwoModes, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.streams = options, streams
        self.budget = Budget(options.steps, "steps")
        self.evaluate_every = options.steps
        self.sde = VPSDE(0.1, options.beta_max)
        width = options.width
        self.networks = nn.ModuleList(
            nn.Sequential(nn.Linear(3, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 1))
            for _ in range(2)
        ).to(accelerator.device)
        self.optimizer = torch.optim.Adam(self.networks.parameters(), lr=options.lr)
        self.gradient_step = GradientStep(accelerator, self.networks, self.optimizer)
        self.data, self.noise = (streams.generator(name, device=accelerator.device) for name in ("data", "noise"))
        self.device = accelerator.device
        self.done = 0

    def train_batches(self) -> Iterator[int]:
        """Yield the numbers of the steps to come; data are drawn within a step."""
        return iter(range(self.done, self.options.steps))

    def train_step(self, batch: int) -> StepResult:
        """Take one step on fresh data."""
        clean = two_modes(self.options.batch, self.data)
        number = self.options.batch
        report = self.gradient_step([(number, lambda: self._loss(clean))], total=number)
        self.done = batch + 1
        return StepResult({"loss": report.loss}, examples=number, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the share of samples off the diagonal, and the correlation within a mode."""
        x, y = (state[:, 0] for state in self.sample(self.streams.generator("samples", split, device=self.device)))
        residual = torch.stack((x, y)) - 0.5 * torch.sign(x + y)
        found = torch.corrcoef(residual[:, x * y > 0])[0, 1]
        return {"off_diagonal": float((x * y < 0).float().mean()), "correlation": float(found)}

    def sample(self, generator: torch.Generator) -> States:
        """Return x and y of `SAMPLES` samples."""
        like = (torch.empty(SAMPLES, 1, device=self.device),) * 2
        init, sdes = prior_sample((self.sde, self.sde), like, generator=generator), (self.sde, self.sde)
        if self.options.scores != "sequential":
            return solve(self._score, sdes, init, self._solver(), generator=generator).states
        (x,) = solve(self._alone, sdes[:1], init[:1], self._solver(), generator=generator).states
        (y,) = solve(self._given(x), sdes[1:], init[1:], self._solver(), generator=generator).states
        return x, y

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training changes."""
        return {"networks": self.networks.state_dict(), "optimizer": self.optimizer.state_dict(), "done": self.done}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.networks.load_state_dict(state["networks"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = state["done"]

    def _loss(self, clean: States) -> Tensor:
        sdes = (self.sde, self.sde)
        if self.options.scores != "sequential":
            return torch.stack(denoising_score_matching(self._score, sdes, clean, generator=self.noise)).sum()

        def both(states: States, t: Tensor) -> States:
            return *self._alone(states[:1], t), *self._given(clean[0])(states[1:], t)

        return torch.stack(denoising_score_matching(both, sdes, clean, generator=self.noise)).sum()

    def _partial(self, number: int, x: Tensor, y: Tensor, t: Tensor) -> Tensor:
        network: Tensor = self.networks[number](torch.cat((x, y, t[:, None]), 1))
        return -network / self.sde.marginal(t)[1][:, None]

    def _score(self, states: States, t: Tensor) -> States:
        x, y = states
        if self.options.scores == "independent":
            return self._partial(0, x, torch.zeros_like(y), t), self._partial(1, torch.zeros_like(x), y, t)
        return self._partial(0, x, y, t), self._partial(1, x, y, t)

    def _alone(self, states: States, t: Tensor) -> States:
        return (self._partial(0, states[0], torch.zeros_like(states[0]), t),)

    def _given(self, x: Tensor) -> Score:
        return lambda states, t: (self._partial(1, x, states[0], t),)

    def _solver(self) -> Solver:
        steps = self.options.solver_steps
        # A grid that ends at eps = 1e-4, as is usual, ends with a step of 1/N at a time where a network's error is
        # multiplied by 1/s = 300. Snr and scale are the authors' for their toy.
        eps = 1 / steps
        return {
            "euler": EulerMaruyama(steps, eps=eps),
            "pc": PredictorCorrector(steps, eps=eps, snr=0.05, scale_eps=0.8),
            "s4": S4(steps, eps=eps, snr=0.05, scale_eps=0.8),
        }[self.options.solver]


def two_modes(number: int, generator: torch.Generator) -> States:
    """Draw x and y, each of shape [number, 1]."""
    device = generator.device
    sign = torch.randint(2, (number, 1), generator=generator, device=device).float() - 0.5
    z = torch.randn(number, 2, generator=generator, device=device)
    other = CORRELATION * z[:, :1] + math.sqrt(1 - CORRELATION**2) * z[:, 1:]
    return sign + 0.1 * z[:, :1], sign + 0.1 * other
