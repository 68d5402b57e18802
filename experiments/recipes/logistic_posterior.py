"""Samples of a posterior against its mode: whether they predict better, in logistic regression on few examples.

Multinomial logistic regression with prior N(0, s²) on all weights, on scikit-learn's breast cancer data or digits: a
few examples to train on, the others for validation and test. ``map`` finds the posterior's mode; the samplers draw from
the posterior with several chains at once, which differ in noise, batches and starting point, and predict by the mean of
the drawn models' probabilities.

    nll        mean −log predicted probability of the right class
    rhat       largest split R̂ over the weights, after centring over the classes (softmax does not see the shift)
    rhat_log_p the same of each chain's log posterior
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from sklearn.datasets import load_breast_cancer
from torch import Tensor
from torch.nn import functional as F

from aleator.data import load
from aleator.experiment import Budget, Headline, Split, StepResult
from aleator.random import Streams
from aleator.sde import SGHMC, SGLD, CyclicalSteps, PreconditionedSGLD
from aleator.stats import split_rhat


@dataclass(frozen=True)
class LogisticPosterior:
    """Fit or sample logistic regression."""

    data: Literal["breast-cancer", "digits"] = "breast-cancer"
    """What is classified: 30 standardised features of 569 cases, or the pixels of 1 797 digits."""
    sampler: Literal["map", "sgld", "psgld", "sghmc", "cyclical"] = "sgld"
    """How the weights are found. "map" is gradient descent to the mode."""
    lr: float = 0.02
    """Step size in units of the negative log posterior."""
    train: int = 60
    """Training examples."""
    prior_std: float = 3.0
    """s of the prior."""
    batch: int = 30
    """Examples of a mini-batch, drawn anew at every step; all of them for "map"."""
    chains: int = 4
    """Chains."""
    steps: int = 12_000
    """Steps of every chain."""
    burn_in: float = 0.33
    """Share of the steps from which nothing is kept."""
    every: int = 20
    """Steps between two draws that are kept."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("lr", "train", "prior_std", "batch", "chains", "steps", "every"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not 0 <= self.burn_in < 1:
            raise ValueError(f"burn_in must be in [0, 1), got {self.burn_in}")

    def task(self, streams: Streams, accelerator: Accelerator) -> LogisticPosteriorTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        return LogisticPosteriorTask(self, streams)


class LogisticPosteriorTask:
    """Chains at work; see `aleator.experiment.Task`."""

    headline = Headline("nll", "min")

    def __init__(self, options: LogisticPosterior, streams: Streams) -> None:
        self.options = options
        self.budget = Budget(options.steps, "steps")
        self.evaluate_every = options.steps
        inputs, targets = _examples(options.data)
        order = torch.randperm(len(targets), generator=streams.generator("split"))
        held_out = (len(targets) - options.train) // 3
        parts = torch.split(order, [options.train, held_out, len(targets) - options.train - held_out])
        names = ("train", "validation", "test")
        self.data = {name: (inputs[part], targets[part]) for name, part in zip(names, parts, strict=True)}
        self.batches, self.noise = streams.generator("batches"), streams.generator("noise")
        chains = 1 if options.sampler == "map" else options.chains
        start = torch.randn(chains, inputs.shape[1], int(targets.max()) + 1, generator=streams.generator("init"))
        self.weight = torch.nn.Parameter(torch.zeros_like(start) if options.sampler == "map" else start)
        self.optimizer = self._optimizer()
        cyclical = options.sampler == "cyclical"
        self.schedule = CyclicalSteps(self.optimizer, options.steps // 12) if cyclical else None
        self.step = 0
        self.kept: list[Tensor] = []
        self.log_p: list[Tensor] = []

    def _optimizer(self) -> torch.optim.Optimizer:
        options = self.options
        shared: dict[str, Any] = {
            "lr": options.lr,
            "n_data": options.train,
            "weight_decay": 1 / (options.train * options.prior_std**2),
            "generator": self.noise,
        }
        if options.sampler == "map":
            return SGLD([self.weight], temperature=0.0, **shared)
        if options.sampler == "psgld":
            return PreconditionedSGLD([self.weight], **shared)
        return SGHMC([self.weight], **shared) if options.sampler == "sghmc" else SGLD([self.weight], **shared)

    def train_batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield a mini-batch for each chain, of shape (chains, batch)."""
        inputs, targets = self.data["train"]
        chains = len(self.weight)
        while True:
            if self.options.sampler == "map":
                yield inputs.expand(chains, -1, -1), targets.expand(chains, -1)
                continue
            keys = torch.rand(chains, len(targets), generator=self.batches)
            rows = keys.argsort(1)[:, : self.options.batch]
            yield inputs[rows], targets[rows]

    def train_step(self, batch: tuple[Tensor, Tensor]) -> StepResult:
        """Move every chain once."""
        inputs, targets = batch
        self.optimizer.zero_grad()
        # The sum over chains of mean losses: each chain has the gradient of its own mean.
        loss = _losses(inputs @ self.weight, targets).mean(1).sum()
        torch.autograd.backward(loss)
        if self._keeps():
            self.kept.append(self.weight.detach().clone())
            self.log_p.append(self._log_posterior())
        self.optimizer.step()
        if self.schedule is not None:
            self.schedule.step()
        self.step += 1
        return StepResult({"loss": loss.detach() / len(self.weight)}, examples=targets.numel())

    def _keeps(self) -> bool:
        if self.options.sampler == "map" or self.step < self.options.burn_in * self.options.steps:
            return False
        if self.schedule is not None and self.schedule.phase < 0.5:
            return False
        return self.step % self.options.every == 0

    @torch.no_grad()
    def _log_posterior(self) -> Tensor:
        inputs, targets = self.data["train"]
        fit = -_losses(inputs @ self.weight, targets.expand(len(self.weight), -1)).sum(1)
        return fit - self.weight.square().sum((1, 2)) / (2 * self.options.prior_std**2)

    @torch.no_grad()
    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the predictive likelihood, and whether the chains agree."""
        inputs, targets = self.data[split]
        weights = torch.cat(self.kept) if self.kept else self.weight
        log_p = torch.stack([(inputs @ weight).log_softmax(-1) for weight in weights])
        predictive = log_p.logsumexp(0) - math.log(len(weights))
        found = {
            "nll": float(F.nll_loss(predictive, targets)),
            "accuracy": float((predictive.argmax(1) == targets).double().mean()),
            "examples": len(targets),
        }
        if len(self.kept) >= 4:
            draws = torch.stack(self.kept, 1)
            centred = (draws - draws.mean(-1, keepdim=True)).flatten(2)
            found["rhat"] = max(split_rhat(coordinate) for coordinate in centred.unbind(2))
            found["rhat_log_p"] = split_rhat(torch.stack(self.log_p, 1))
        return found

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training changes."""
        state = {
            "weight": self.weight.detach(),
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "kept": self.kept,
            "log_p": self.log_p,
        }
        return state | ({"schedule": self.schedule.state_dict()} if self.schedule is not None else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        with torch.no_grad():
            self.weight.copy_(state["weight"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.kept, self.log_p = state["step"], list(state["kept"]), list(state["log_p"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])


def _examples(name: str) -> tuple[Tensor, Tensor]:
    """Return inputs with a last column of ones, and classes."""
    if name == "digits":
        digits = load("digits")
        inputs = digits.normalise(torch.cat([digits.train.inputs, digits.test.inputs])).flatten(1)
        targets = torch.cat([digits.train.targets, digits.test.targets])
    else:
        features, classes = load_breast_cancer(return_X_y=True)
        inputs, targets = torch.tensor(features, dtype=torch.float32), torch.tensor(classes)
        inputs = (inputs - inputs.mean(0)) / inputs.std(0)
    return torch.cat([inputs, torch.ones(len(inputs), 1)], 1), targets


def _losses(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the loss of each example of each chain."""
    return -logits.log_softmax(-1).gather(2, targets.unsqueeze(-1)).squeeze(-1)
