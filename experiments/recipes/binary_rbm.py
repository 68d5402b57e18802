"""A restricted Boltzmann machine on binarised digits, by contrastive divergence with persistent chains or without.

    W ← W + γ_t (E_data[v hᵀ] − E_chain[v hᵀ]),    γ_t = γ/(1 + t/τ)

The chains move by one Gibbs sweep an update. ``pcd`` lets them go on for ever, which makes the scheme stochastic
approximation of maximum likelihood (L. Younes, Stochastics and Stochastics Reports 65, 1999; T. Tieleman, ICML 2008);
``cd`` restarts them at the data. ``independent`` is the trivial model of independent pixels.

    nll          mean over digits of −log p(v), exact: the sum over all hidden states is small enough, in nats
    pseudo_nll   mean over digits of −Σ_j log p(v_j | the other pixels), in nats
    drops        at how many of 30 checks the moving average (of 5) of the held-out pseudo-likelihood got worse
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from aleator.data import load
from aleator.experiment import Budget, Headline, Split, StepResult
from aleator.random import Streams

CHECKS, WINDOW = 30, 5


@dataclass(frozen=True)
class BinaryRBM:
    """Learn a restricted Boltzmann machine."""

    method: Literal["pcd", "cd", "independent"] = "pcd"
    """Persistent chains, chains that start at the data, or no machine at all."""
    hidden: int = 16
    """Hidden units; the exact likelihood takes 2 to their power."""
    steps: int = 6000
    """Updates."""
    batch: int = 100
    """Digits, and chains, of an update."""
    lr: float = 0.05
    """γ."""
    decay_steps: float = 1000.0
    """τ."""

    def task(self, streams: Streams, accelerator: Accelerator) -> BinaryRBMTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        return BinaryRBMTask(self, streams)


class BinaryRBMTask:
    """A machine in training; see `aleator.experiment.Task`."""

    headline = Headline("nll", "min")

    def __init__(self, options: BinaryRBM, streams: Streams) -> None:
        self.options = options
        self.budget = Budget(options.steps, "steps")
        self.evaluate_every = options.steps
        digits = load("digits")
        order = torch.randperm(len(digits.train.targets), generator=streams.generator("split"))
        train, test = ((part.inputs.flatten(1) >= digits.max_value / 2).float() for part in (digits.train, digits.test))
        self.data = {"train": train[order[:-200]], "validation": train[order[-200:]], "test": test}
        self.draws = streams.generator("chains")
        train = self.data["train"]
        frequency = (train.sum(0) + 0.5) / (len(train) + 1)
        self.weight = 0.01 * torch.randn(64, options.hidden, generator=streams.generator("init"))
        self.visible_bias, self.hidden_bias = frequency.logit(), torch.zeros(options.hidden)
        self.chains = (torch.rand(options.batch, 64, generator=self.draws) < frequency).float()
        self.step = 0
        self.checks: list[float] = []

    def train_batches(self) -> Iterator[Tensor]:
        """Yield batches drawn anew."""
        train = self.data["train"]
        while True:
            yield train[torch.randint(len(train), (self.options.batch,), generator=self.draws)]

    def train_step(self, batch: Tensor) -> StepResult:
        """Make one update."""
        options = self.options
        if self.step % (options.steps // CHECKS) == 0:
            self.checks.append(self._pseudo_nll(self.data["validation"]))
        if options.method != "independent":
            self._update(batch)
        self.step += 1
        return StepResult({}, examples=len(batch))

    def _update(self, v: Tensor) -> None:
        options = self.options
        rate = options.lr / (1 + self.step / options.decay_steps)
        h = self._hidden(v)
        chains = self._sweep(v if options.method == "cd" else self.chains)
        h_chain = self._hidden(chains)
        self.chains = chains
        n = len(v)
        self.weight += rate * (v.T @ h - chains.T @ h_chain) / n
        self.visible_bias += rate * (v - chains).mean(0)
        self.hidden_bias += rate * (h - h_chain).mean(0)

    def _hidden(self, v: Tensor) -> Tensor:
        return (v @ self.weight + self.hidden_bias).sigmoid()

    def _sweep(self, v: Tensor) -> Tensor:
        """Draw the hidden units, then the visible ones."""
        h = self._hidden(v)
        h = (torch.rand(h.shape, generator=self.draws) < h).float()
        v = (h @ self.weight.T + self.visible_bias).sigmoid()
        return (torch.rand(v.shape, generator=self.draws) < v).float()

    def _pseudo_nll(self, v: Tensor) -> float:
        """Return the exact negative log pseudo-likelihood of a digit: every pixel is flipped in turn."""
        inputs = v @ self.weight + self.hidden_bias
        sign = 1 - 2 * v  # what a flip adds to a pixel
        total = torch.zeros(len(v))
        for j in range(64):
            flipped = inputs + sign[:, j : j + 1] * self.weight[j]
            gain = sign[:, j] * self.visible_bias[j] + (F.softplus(flipped) - F.softplus(inputs)).sum(1)
            total += F.softplus(gain)  # −log p(v_j | rest) = log(1 + e^{F(v) − F(flipped)})
        return float(total.double().mean())

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the pseudo-likelihood, and how steadily it rose."""
        means = [math.fsum(self.checks[i : i + WINDOW]) / WINDOW for i in range(len(self.checks) - WINDOW + 1)]
        drops = sum(later > earlier for earlier, later in itertools.pairwise(means))
        v = self.data[split]
        return {"nll": self._nll(v), "pseudo_nll": self._pseudo_nll(v), "drops": float(drops)}

    def _nll(self, v: Tensor) -> float:
        """Return the exact mean negative log-likelihood."""
        hidden = self.options.hidden
        states = (torch.arange(2**hidden).unsqueeze(1) >> torch.arange(hidden)) % 2
        states = states.double()
        visible = states @ self.weight.double().T + self.visible_bias.double()
        log_z = (states @ self.hidden_bias.double() + F.softplus(visible).sum(1)).logsumexp(0)
        v = v.double()
        free = v @ self.visible_bias.double() + F.softplus(v @ self.weight.double() + self.hidden_bias.double()).sum(1)
        return float(log_z - free.mean())

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training changes."""
        names = ("weight", "visible_bias", "hidden_bias", "chains", "step", "checks")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        for name, value in state.items():
            setattr(self, name, value)
