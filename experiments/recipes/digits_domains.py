"""The noise of the gradient of a batch from domains of 800, 80 and 16 digits, under each way to sample.

What is measured is log₂ of the trace of the covariance of a batch's mean gradient: before the first step, after 100 and
at the end. It is found twice, independently: in closed form from the moments of the gradients of all examples, and from
batches that are drawn, with replacement, and differentiated. Runs of one seed and temperature go through the same
weights, whatever they measure, so that differences between them are logarithms of ratios at the same point.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.data import DomainMixture, InMemoryLoader, MixtureSampler, load
from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.gradients import GradientMomentProbe, batch_gradient_variance
from aleator.losses import scalarized_loss
from aleator.random import Streams

SIZES = {"large": 800, "middle": 80, "small": 16}
CLASSES = {"large": range(6), "middle": (6, 7), "small": (8, 9)}
BATCH = 32


@dataclass(frozen=True)
class DigitsDomains:
    """Measure the variance of batch gradients while a small network learns digits by temperature sampling."""

    sampling: Literal["temperature", "scalarization", "quota"] = "temperature"
    """The way to sample that is measured. Training is by temperature sampling in any case."""
    temperature: float = 5.0
    """Of the mixture: 1 is in proportion to size, a large one uniform."""
    measured: Literal["closed-form", "batches"] = "closed-form"
    """From the moments of all examples' gradients, or from batches."""
    batches: int = 2000
    """Batches that are drawn for one figure."""
    steps: int = 500
    """Optimizer steps."""
    lr: float = 0.1
    """Learning rate of SGD."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("temperature", "batches", "steps", "lr"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")

    def task(self, streams: Streams, accelerator: Accelerator) -> DigitsDomainsTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        return DigitsDomainsTask(self, streams, accelerator)


class DigitsDomainsTask:
    """A classifier in training whose gradients are looked at; see `aleator.experiment.Task`."""

    headline = Headline("log2_variance/end", "min")

    def __init__(self, options: DigitsDomains, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.accelerator = options, accelerator
        self.budget = Budget(options.steps, "steps")
        self.evaluate_every = options.steps
        digits = load("digits")
        order = torch.randperm(len(digits.train.targets), generator=streams.generator("split"))
        chosen = torch.cat(
            [
                order[torch.isin(digits.train.targets[order], torch.tensor(CLASSES[name]))][:size]
                for name, size in SIZES.items()
            ]
        )
        inputs = digits.normalise(digits.train.inputs[chosen], torch.float64).flatten(1)
        self.examples = inputs, digits.train.targets[chosen]

        self.mixture = DomainMixture(SIZES, options.temperature, options.steps, allocation="iid")
        self.sampler = MixtureSampler(SIZES, self.mixture, BATCH, generator=streams.generator("data"))
        self.model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10)).double()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=options.lr)
        self.gradient_step = GradientStep(accelerator, self.model, self.optimizer)
        self.draws = streams.generator("measurement")
        self.found: dict[str, float] = {}

    def train_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield the batches of temperature sampling."""
        return iter(InMemoryLoader(self.examples, self.sampler.batches()))

    def train_step(self, batch: tuple[Tensor, ...]) -> StepResult:
        """Take one step, and measure before the first one and the one after the hundredth."""
        inputs, targets = batch
        point = {1: "start", 101: "100"}.get(self.sampler.step)
        if point is not None:
            self.found[f"log2_variance/{point}"] = self._measure()
        report = self.gradient_step([(BATCH, lambda: F.cross_entropy(self.model(inputs), targets))], total=BATCH)
        return StepResult({"loss": report.loss}, examples=BATCH, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return what was measured, of the end too: validation and test are the same."""
        if split == "validation":
            with torch.enable_grad():
                self.found["log2_variance/end"] = self._measure()
        return dict(self.found)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training changes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "sampler": self.sampler.state_dict(),
            "found": self.found,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.sampler.load_state_dict(state["sampler"])
        self.found = dict(state["found"])

    def _measure(self) -> float:
        variance = self._closed_form() if self.options.measured == "closed-form" else self._of_batches()
        return math.log2(variance)

    def _closed_form(self) -> float:
        parts = [torch.split(tensor, list(SIZES.values())) for tensor in self.examples]
        domains = {name: tuple(part[i] for part in parts) for i, name in enumerate(SIZES)}
        probe = GradientMomentProbe(self.model, F.cross_entropy, chunk_size=128)
        moments = probe.measure(domains, samples=max(SIZES.values()), generator=self.draws)
        p, w = torch.from_numpy(self.mixture.probabilities(0)), self._weights()
        return batch_gradient_variance(p, w, moments.second, moments.products, BATCH)[self.options.sampling]

    def _of_batches(self) -> float:
        weighted = self.options.sampling == "scalarization"
        allocation: Literal["quota", "iid"] = "quota" if self.options.sampling == "quota" else "iid"
        drawn_from = DomainMixture(SIZES, 1.0 if weighted else self.options.temperature, 1, allocation)
        key = int(torch.randint(2**62, (), generator=self.draws))
        inputs, targets = self.examples
        sizes = torch.tensor(list(SIZES.values()))
        gradients = []
        for row in torch.from_numpy(drawn_from.domains(0, self.options.batches, BATCH, key)):
            within = (torch.rand(BATCH, generator=self.draws, dtype=torch.float64) * sizes[row]).long()
            examples = (sizes.cumsum(0) - sizes)[row] + within
            losses = F.cross_entropy(self.model(inputs[examples]), targets[examples], reduction="none")
            loss = scalarized_loss(losses, row, self._weights()) if weighted else losses.mean()
            gradients.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(self.model.parameters()))]))
        return float(torch.stack(gradients).var(0).sum())

    def _weights(self) -> Tensor:
        return torch.from_numpy(self.mixture.scalarization_weights(0))
