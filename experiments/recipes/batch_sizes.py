"""What the size of a batch does to the curvature that it sees, and to the learning rate that is best for it.

`BatchCurvature` measures how far batches move the largest eigenvalue of the Hessian: an MLP of 64-16-10 with tanh on
digits, at the start or after 60 steps of SGD; the mean of the largest eigenvalue over 8 batches of each size.

    r_squared    of a line through the means against 1/B, B = 4 … 256
    slope        of that line, over the eigenvalue of all data
    intercept    of `aleator.optim.fit_broadening`'s fit over B = 16 … 256, over the eigenvalue of all data

`RateGrid` trains an MLP of 64-64-64-10 with ReLU for 150 updates at constant rates, a factor of √2 apart. Best is the
rate of the lowest loss on all training data at the end; not diverging is every rate whose loss is below 2.3 then.

    slope, largest_slope            of log best, and of log largest not diverging, rate in log B, B = 4 … 256
    off_4x                          log₂ of the rate that the rule predicts for 64 from the best at 16, over the best
    log_loss_4x, log_loss_16x       log₁₀ of the loss of 64 at the rate predicted from 16, from 4; capped at 1
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.data import load
from aleator.experiment import Budget, Headline, Split, StepResult
from aleator.optim import CurvatureOperator, scale_lr, slq
from aleator.optim.curvature.broadening import broadening_of
from aleator.optim.scaling import effective_batch
from aleator.random import Streams

SIZES = (4, 8, 16, 32, 64, 128, 256)


@dataclass(frozen=True)
class BatchCurvature:
    """Measure the largest eigenvalue of batches of seven sizes."""

    updates: int = 0
    """Of SGD, at a rate of 0.1 with momentum 0.9 on batches of 64, before it is measured."""
    draws: int = 8
    """Batches of each size."""
    lanczos_steps: int = 30
    """Products for an eigenvalue."""

    def task(self, streams: Streams, accelerator: Accelerator) -> Measurement:
        """Build the task; see `aleator.experiment.Recipe`."""
        return Measurement(Headline("r_squared", "max"), lambda: self.measured(streams))

    def measured(self, streams: Streams) -> dict[str, float]:
        """Train, and measure."""
        inputs, targets = centred_digits()
        rows = streams.generator("batches")
        with streams.scope("weights"):
            model = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 10))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(self.updates):
            chosen = torch.randperm(len(inputs), generator=rows)[:64]
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs[chosen]), targets[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()

        def top(count: int) -> float:
            chosen = torch.randperm(len(inputs), generator=rows)[:count]
            curvature = CurvatureOperator(model, F.cross_entropy, [(inputs[chosen], targets[chosen])])
            return slq(curvature, self.lanczos_steps, generator=rows).top

        whole = top(len(inputs))
        tops = {size: [top(size) for _ in range(self.draws)] for size in SIZES}
        means = np.array([np.mean(tops[size]) for size in SIZES])
        inverse = 1 / np.array(SIZES)
        slope, constant = np.polyfit(inverse, means, 1)
        left = means - (slope * inverse + constant)
        large = [size for size in SIZES if size >= 16]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what a fit over small batches means is what is measured here
            fitted = broadening_of([1 / effective_batch(b, len(inputs)) for b in large], [tops[b] for b in large])
        found = {
            "r_squared": float(1 - left @ left / ((means - means.mean()) @ (means - means.mean()))),
            "slope": float(slope / whole),
            "intercept": fitted.lmbda / whole,
            "eigenvalue": whole,
        }
        return found | {f"eigenvalue_{size}": float(mean) for size, mean in zip(SIZES, means, strict=True)}


UPDATES = 150
DIVERGED = 2.3
# Exponents k of rates 2^(k/2).
GRIDS = {"sgd": range(-16, 4), "adam": range(-22, 0)}


@dataclass(frozen=True)
class RateGrid:
    """Find the best rate of seven batch sizes."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """SGD with momentum 0.9, or Adam."""
    rule: Literal["sgd", "adam"] = "sgd"
    """The rule that predicts rates of other batches: in proportion, or by the square root."""

    def task(self, streams: Streams, accelerator: Accelerator) -> Measurement:
        """Build the task; see `aleator.experiment.Recipe`."""
        return Measurement(Headline("slope", "max"), lambda: self.measured(streams))

    def measured(self, streams: Streams) -> dict[str, float]:
        """Train at every rate and batch size."""
        grid = [2 ** (k / 2) for k in GRIDS[self.optimizer]]
        losses = {size: [self._loss(streams, size, lr) for lr in grid] for size in SIZES}
        best = {size: grid[int(np.argmin(found))] for size, found in losses.items()}
        largest = {
            size: max(lr for lr, loss in zip(grid, found, strict=True) if loss < DIVERGED)
            for size, found in losses.items()
        }
        predicted = {base: scale_lr(best[base], base, 64, self.rule) for base in (16, 4)}
        found = {
            "slope": _slope(best),
            "largest_slope": _slope(largest),
            "off_4x": math.log2(predicted[16] / best[64]),
            "log_loss_4x": math.log10(min(self._loss(streams, 64, predicted[16]), 10.0)),
            "log_loss_16x": math.log10(min(self._loss(streams, 64, predicted[4]), 10.0)),
        }
        return found | {f"best_{size}": lr for size, lr in best.items()}

    def _loss(self, streams: Streams, size: int, lr: float) -> float:
        """Return the loss at the end, the same weights and batches for every rate; infinity where it is no number."""
        inputs, targets = centred_digits()
        fresh = Streams(streams.key("grid"))
        with fresh.scope("weights"):
            model = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
        rows = fresh.generator("batches", size)
        optimizer: torch.optim.Optimizer
        if self.optimizer == "sgd":
            optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        else:
            optimizer = torch.optim.Adam(model.parameters(), lr=lr)
        for _ in range(UPDATES):
            chosen = torch.randint(len(inputs), (size,), generator=rows)
            optimizer.zero_grad()
            loss = F.cross_entropy(model(inputs[chosen]), targets[chosen])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        with torch.no_grad():
            end = float(F.cross_entropy(model(inputs), targets))
        return end if math.isfinite(end) else math.inf


def _slope(rates: dict[int, float]) -> float:
    x, y = np.log(list(rates)), np.log(list(rates.values()))
    return float(np.polyfit(x, y, 1)[0])


class Measurement:
    """One step, which measures something once for a seed; see `aleator.experiment.Task`.

    Args:
        headline: the metric that matters.
        measure: returns metrics by name.
    """

    def __init__(self, headline: Headline, measure: Callable[[], Mapping[str, float]]) -> None:
        self.headline, self._measure = headline, measure
        self.budget = Budget(1, "steps")
        self.found: dict[str, float] = {}

    def train_batches(self) -> Iterator[None]:
        """Yield nothing, without end."""
        while True:
            yield None

    def train_step(self, batch: None) -> StepResult:
        """Measure."""
        self.found = dict(self._measure())
        return StepResult()

    def evaluate(self, split: Split) -> Mapping[str, float]:
        """Return what was found."""
        return self.found

    def state_dict(self) -> dict[str, Any]:
        """Return what was found."""
        return {"found": self.found}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        self.found = state["found"]


@functools.cache
def centred_digits() -> tuple[Tensor, Tensor]:
    """Return all 1 437 training digits of 64 pixels from 0 to 1, less each pixel's mean, and their classes."""
    digits = load("digits")
    inputs = digits.train.inputs.flatten(1).float() / digits.max_value
    return inputs - inputs.mean(0), torch.as_tensor(digits.train.targets)
