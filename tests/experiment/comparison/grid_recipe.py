"""A recipe for comparisons: logistic regression on drawn points, and ways to go wrong that a real one has, too.

As in any recipe, torch is imported by who carries it out, and not by who only plans.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

from aleator.experiment import Budget, Headline, StepResult

TEST_EXAMPLES = 200


@dataclass(frozen=True)
class Grid:
    """Tell two clouds of points apart."""

    lr: float = 0.3
    """Learning rate."""
    steps: int = 30
    """Steps."""
    unit: str = "steps"
    """What they are called."""
    train_size: int = 64
    """Training points."""
    say: str = ""
    """Print this in every step."""
    refuse: bool = False
    """Raise ValueError when the task is built, as for data that do not fit."""
    break_seed: int = -1
    """Raise ValueError in the middle of the run with this seed."""
    kill_seed: int = -1
    """Be killed in the middle of the run with this seed."""
    interrupt: int = -1
    """In step 5 interrupt this process and go on when asked to leave."""
    hang: bool = False
    """In step 5 hear no request to leave, and do not come back."""
    announce: str = ""
    """In step 5 write the process's number to this file and go on when asked to leave."""

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")

    def task(self, streams, accelerator):
        return GridTask(self, streams)


class GridTask:
    headline = Headline("accuracy")
    evaluate_every = 10

    def __init__(self, options: Grid, streams) -> None:
        from torch import nn

        if options.refuse:
            raise ValueError("batch_size must be at most 3, got 8")
        self.options, self.seed = options, streams.seed
        self.budget = Budget(options.steps, options.unit)
        self.model = nn.Linear(2, 1)
        self.order = streams.generator("order")
        self.points = {
            "train": self._draw(streams.generator("train"), options.train_size),
            "validation": self._draw(streams.generator("validation"), 100),
            "test": self._draw(streams.generator("test"), TEST_EXAMPLES),
        }
        self.taken = 0

    @staticmethod
    def _draw(generator, count):
        import torch

        y = torch.arange(count) % 2
        return torch.randn(count, 2, generator=generator) + y[:, None], y.float()

    def train_batches(self):
        import torch

        while True:
            yield torch.randint(self.options.train_size, (8,), generator=self.order)

    def train_step(self, batch) -> StepResult:
        import torch
        from torch import nn

        if self.options.say:
            print(self.options.say)  # noqa: T201
        if self.taken == 5:
            self._go_wrong()
        self.taken += 1
        x, y = self.points["train"][0][batch], self.points["train"][1][batch]
        loss = nn.functional.binary_cross_entropy_with_logits(self.model(x)[:, 0], y)
        gradients = torch.autograd.grad(loss, list(self.model.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(self.model.parameters(), gradients, strict=True):
                parameter -= self.options.lr * gradient
        return StepResult({"loss": loss}, examples=8)

    def _go_wrong(self) -> None:
        if self.seed == self.options.break_seed:
            raise ValueError("a number was not what it should be")
        if self.seed == self.options.kill_seed:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.options.interrupt >= 0 or self.options.announce:
            reader, writer = os.pipe()
            os.set_blocking(writer, False)
            before = signal.set_wakeup_fd(writer)
            if self.options.hang:
                for number in (signal.SIGINT, signal.SIGTERM):
                    signal.signal(number, signal.SIG_IGN)
            if self.options.announce:
                Path(self.options.announce).write_text(str(os.getpid()))
            else:
                os.kill(self.options.interrupt, signal.SIGINT)
            os.read(reader, 1)  # returns when a signal has arrived
            signal.set_wakeup_fd(before)

    def evaluate(self, split):
        x, y = self.points[split]
        right = (self.model(x)[:, 0] > 0) == (y > 0.5)
        return {"accuracy": float(right.double().mean()), "examples": len(y)}

    def state_dict(self):
        return {"model": self.model.state_dict(), "taken": self.taken}

    def load_state_dict(self, state) -> None:
        self.model.load_state_dict(state["model"])
        self.taken = state["taken"]
