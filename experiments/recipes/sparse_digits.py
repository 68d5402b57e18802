"""A linear classifier of digits with an ℓ1 penalty: how low is the objective, and how many weights are exactly zero?

    F(W, b) = mean cross-entropy over the training examples + λ‖W‖₁,    W of 10 × 64, b free, everything 0 at first

Pixels are divided by 16; a seed splits the 1 797 digits into 1 200 for training and 597 for the test.
L = ½λ_max(XᵀX/n), with the column of ones, bounds the curvature of the mean loss: rates are given as multiples of 1/L.
scikit-learn's SAGA solves the same problem, and "constant" is the solution with the strongest penalty: zero weights and
fitted biases.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.data import load
from aleator.experiment import Budget, Headline, Split, StepResult
from aleator.optim import RDA, ProximalSGD, ProxSVRG, RobbinsMonro, linear_smoothness, sklearn_c, sparsity
from aleator.optim import proximal as prox
from aleator.random import Streams

TRAIN = 1200


@dataclass(frozen=True)
class SparseDigits:
    """Fit a sparse linear classifier."""

    method: Literal["prox-svrg", "rda", "proximal-sgd", "subgradient", "saga", "constant"] = "prox-svrg"
    """What fits it. subgradient is SGD on the penalised loss as autograd differentiates it; saga is scikit-learn's."""
    lam: float = 0.001
    """λ."""
    passes: int = 100
    """Passes over the training data; for prox-svrg the passes between snapshots."""
    batch: int = 8
    """Examples in a batch; 1 200 must be a multiple of it."""
    rate: float = 8.0
    """Learning rate times L, of the first pass for the two SGDs; rda has gamma instead."""
    decay: float = 0.1
    """c of the two SGDs' rate, which is divided by 1 + c·pass."""
    gamma: float = 0.02
    """γ of rda."""
    tolerance: float = 1e-6
    """Of saga."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("lam", "passes", "batch", "rate", "decay", "gamma", "tolerance"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if TRAIN % self.batch:
            raise ValueError(f"batch must divide {TRAIN}, got {self.batch}")

    def task(self, streams: Streams, accelerator: Accelerator) -> SparseDigitsTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        return SparseDigitsTask(self, streams)


def split(generator: torch.Generator) -> dict[str, tuple[Tensor, Tensor]]:
    """Return pixels between 0 and 1 and classes, ``train`` and ``test``, in float64."""
    digits = load("digits")
    inputs = torch.cat([digits.train.inputs, digits.test.inputs]).flatten(1).double()
    targets = torch.cat([digits.train.targets, digits.test.targets])
    order = torch.randperm(len(inputs), generator=generator)
    inputs, targets = inputs[order] / inputs.max(), targets[order]
    return {"train": (inputs[:TRAIN], targets[:TRAIN]), "test": (inputs[TRAIN:], targets[TRAIN:])}


class SparseDigitsTask:
    """A pass is a step of the run; see `aleator.experiment.Task`."""

    headline = Headline("log_objective", "min")

    def __init__(self, options: SparseDigits, streams: Streams) -> None:
        self.options = options
        self.data = split(streams.generator("split"))
        self.order = streams.generator("data")
        inputs, _ = self.data["train"]
        self.model = nn.Linear(64, 10).double()
        nn.init.zeros_(self.model.weight)
        nn.init.zeros_(self.model.bias)
        once = options.method in ("saga", "constant")
        self.budget = Budget(1 if once else options.passes, "passes")
        self.evaluate_every = self.budget.total
        self.done = 0
        self.seconds = 0.0
        self.optimizer, self.schedule = self._optimizer(options.rate / linear_smoothness(inputs, "cross-entropy"))

    def train_batches(self) -> Iterator[int]:
        """Yield the numbers of the passes to come."""
        return iter(range(self.done, self.budget.total or 0))

    def train_step(self, batch: int) -> StepResult:
        """Make one pass over the training data."""
        began = time.perf_counter()
        if self.options.method == "saga":
            self._saga()
        elif self.options.method == "constant":
            self._constant()
        else:
            self._pass()
        self.seconds += time.perf_counter() - began
        self.done = batch + 1
        return StepResult({}, examples=TRAIN)

    @torch.no_grad()
    def evaluate(self, split: Split) -> dict[str, float]:
        """Return objective, zeros and accuracy. The objective is of the training data; there is no validation set."""
        loss = self._loss(*self.data["train"]) + self.options.lam * self.model.weight.abs().sum()
        inputs, targets = self.data["test"]
        found = sparsity([("weight", self.model.weight)])["weight"]
        return {
            "log_objective": math.log(float(loss)),
            "objective": float(loss),
            "zeros": found.share,
            "accuracy": float((self.model(inputs).argmax(1) == targets).double().mean()) if split == "test" else 0.0,
            "seconds": self.seconds,
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training changes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "schedule": None if self.schedule is None else self.schedule.state_dict(),
            "order": self.order.get_state(),
            "done": self.done,
            "seconds": self.seconds,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        if self.optimizer is not None:
            self.optimizer.load_state_dict(state["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(state["schedule"])
        self.order.set_state(state["order"])
        self.done, self.seconds = state["done"], state["seconds"]

    def _optimizer(self, lr: float) -> tuple[torch.optim.Optimizer | None, RobbinsMonro | None]:
        options, parameters = self.options, self.model.parameters()
        if options.method == "prox-svrg":
            return ProxSVRG(parameters, lr, prox.L1(options.lam)), None
        if options.method == "rda":
            return RDA(parameters, options.gamma, options.lam), None
        if options.method in ("proximal-sgd", "subgradient"):
            penalty = prox.L1(options.lam) if options.method == "proximal-sgd" else None
            optimizer = ProximalSGD(parameters, lr, prox=penalty)
            return optimizer, RobbinsMonro(optimizer, options.decay)
        return None, None

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.model(inputs), targets)

    def _backward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        self.model.zero_grad()
        loss = self._loss(inputs, targets)
        if self.options.method == "subgradient":
            loss = loss + self.options.lam * self.model.weight.abs().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    def _pass(self) -> None:
        inputs, targets = self.data["train"]
        optimizer = self.optimizer
        if isinstance(optimizer, ProxSVRG):
            optimizer.snapshot(lambda: self._backward(inputs, targets))
        for rows in torch.randperm(TRAIN, generator=self.order).view(-1, self.options.batch):
            closure: Callable[[], Tensor] = functools.partial(self._backward, inputs[rows], targets[rows])
            if isinstance(optimizer, ProxSVRG):
                optimizer.step(closure)
            else:
                assert optimizer is not None
                closure()
                optimizer.step()
        if self.schedule is not None:
            self.schedule.step()

    def _saga(self) -> None:
        from sklearn.linear_model import LogisticRegression

        inputs, targets = self.data["train"]
        seed = int(torch.randint(2**31 - 1, (), generator=self.order))
        penalty = sklearn_c(prox.L1(self.options.lam), TRAIN)
        solver = LogisticRegression(
            solver="saga", **penalty, tol=self.options.tolerance, max_iter=20_000, random_state=seed
        ).fit(inputs.numpy(), targets.numpy())
        with torch.no_grad():
            self.model.weight.copy_(torch.from_numpy(solver.coef_))
            self.model.bias.copy_(torch.from_numpy(solver.intercept_))

    @torch.no_grad()
    def _constant(self) -> None:
        self.model.bias.copy_(torch.bincount(self.data["train"][1], minlength=10).double().log())
