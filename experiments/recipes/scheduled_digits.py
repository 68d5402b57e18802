"""A network for digits under schedules that are tuned, and under tests that lower the rate by themselves.

SGD with heavy-ball momentum on an MLP of 64-64-10, a constant rate that falls by 10 when a test says that progress has
ended (SASA, Pflug, the distance test), or at two steps that are part of a grid. A seed splits scikit-learn's digits
into training, validation and test parts; which cell of the grid is best, validation data say.
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
from torch.optim.lr_scheduler import ConstantLR, LRScheduler, MultiStepLR

from aleator.data import InMemoryLoader, RepeatedRandomSampler, load
from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.optim import SASA, DistanceTest, Pflug
from aleator.random import Streams

TRAIN, VALIDATION = 1000, 300


@dataclass(frozen=True)
class ScheduledDigits:
    """Train a small network by SGD under a schedule."""

    schedule: Literal["sasa", "pflug", "distance", "steps", "constant"] = "sasa"
    """Tests that lower the rate; two steps; or nothing."""
    lr: float = 0.1
    """Learning rate at first."""
    momentum: float = 0.9
    """Of SGD, without Nesterov's direction."""
    weight_decay: float = 5e-4
    """Of all parameters."""
    steps: int = 3000
    """Optimizer steps."""
    milestones: tuple[float, ...] = (0.5, 0.75)
    """Of steps: after which shares of them the rate falls by 10."""
    check_every: int = 300
    """Of sasa: steps from one test to the next. pflug has as many for its burn-in."""
    batch: int = 20
    """Examples in a batch."""
    width: int = 64
    """Hidden units."""

    def __post_init__(self) -> None:
        """Check the options.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        for name in ("lr", "steps", "check_every", "batch", "width"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {getattr(self, name)}")
        if not all(0 < share < 1 for share in self.milestones):
            raise ValueError(f"milestones must be in (0, 1), got {self.milestones}")

    def task(self, streams: Streams, accelerator: Accelerator) -> ScheduledDigitsTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        return ScheduledDigitsTask(self, streams, accelerator)


class ScheduledDigitsTask:
    """A network in training; see `aleator.experiment.Task`."""

    headline = Headline("accuracy", "max")

    def __init__(self, options: ScheduledDigits, streams: Streams, accelerator: Accelerator) -> None:
        self.options = options
        self.budget = Budget(options.steps, "steps")
        self.evaluate_every = options.steps
        digits = load("digits")
        inputs = torch.cat([digits.train.inputs, digits.test.inputs]).flatten(1).float()
        targets = torch.cat([digits.train.targets, digits.test.targets])
        order = torch.randperm(len(inputs), generator=streams.generator("split"))
        inputs, targets = inputs[order] / inputs.max(), targets[order]
        ends = {"train": (0, TRAIN), "validation": (TRAIN, TRAIN + VALIDATION), "test": (TRAIN + VALIDATION, None)}
        self.data = {name: (inputs[a:b], targets[a:b]) for name, (a, b) in ends.items()}
        self.sampler = RepeatedRandomSampler(TRAIN, ratio=1.0, generator=streams.generator("data"))
        self.model = nn.Sequential(nn.Linear(64, options.width), nn.ReLU(), nn.Linear(options.width, 10))
        self.optimizer = torch.optim.SGD(
            self.model.parameters(), lr=options.lr, momentum=options.momentum, weight_decay=options.weight_decay
        )
        self.schedule = self._schedule()
        self.gradient_step = GradientStep(accelerator, self.model, self.optimizer, schedule=self.schedule)

    def train_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield batches of examples in random order."""
        while True:
            yield from InMemoryLoader(self.data["train"], self.sampler.batches(self.options.batch))

    def train_step(self, batch: tuple[Tensor, ...]) -> StepResult:
        """Take one step."""
        inputs, targets = batch
        report = self.gradient_step(
            [(len(inputs), lambda: F.cross_entropy(self.model(inputs), targets))], total=len(inputs)
        )
        return StepResult({"loss": report.loss}, examples=len(inputs), skipped=report.skipped)

    @torch.no_grad()
    def evaluate(self, split: Split) -> dict[str, float]:
        """Return accuracy and loss, the training loss, and by how much the rate has fallen."""
        outputs, targets = self.model(self.data[split][0]), self.data[split][1]
        inputs, classes = self.data["train"]
        return {
            "accuracy": float((outputs.argmax(1) == targets).double().mean()),
            "loss": float(F.cross_entropy(outputs, targets)),
            "train_loss": float(F.cross_entropy(self.model(inputs), classes)),
            "drops": round(math.log10(self.options.lr / self.optimizer.param_groups[0]["lr"])),
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training changes."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "sampler": self.sampler.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.sampler.load_state_dict(state["sampler"])

    def _schedule(self) -> LRScheduler:
        options = self.options
        if options.schedule == "sasa":
            return SASA(self.optimizer, options.check_every)
        if options.schedule == "pflug":
            return Pflug(self.optimizer, options.check_every)
        if options.schedule == "distance":
            return DistanceTest(self.optimizer)
        if options.schedule == "steps":
            return MultiStepLR(self.optimizer, [round(share * options.steps) for share in options.milestones])
        return ConstantLR(self.optimizer, factor=1.0)
