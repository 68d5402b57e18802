"""A recipe of one's own: regression with dropout, so that every kind of randomness and state is there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from aleator.experiment import Budget, GradientStep, Headline, StepResult


@dataclass(frozen=True)
class Toy:
    """Fit a noisy line."""

    lr: float = 0.1
    """Learning rate."""
    steps: int = 40
    """Steps."""
    nan_at: int = -1
    """Make the loss of this step not a number."""
    fail_at: int = -1
    """Raise an error in this step."""
    signal_at: int = -1
    """Send this process a SIGINT in this step."""
    slow: float = 0.0
    """Seconds that a step takes longer."""
    precision: str = "float32"
    """Arithmetic."""

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise ValueError(f"lr must be positive, got {self.lr}")

    def task(self, streams, accelerator):
        return ToyTask(self, streams, accelerator)


class ToyTask:
    headline = Headline("loss", "min")

    def __init__(self, options: Toy, streams, accelerator) -> None:
        self.options = options
        self.budget = Budget(options.steps)
        self.evaluate_every = 7
        model = nn.Sequential(nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
        self.model = accelerator.prepare_model(model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=options.lr)
        self.gradient_step = GradientStep(accelerator, self.model, self.optimizer)
        self.data = streams.generator("data")
        self.held_out = self._draw(streams.generator("held out"), 64)
        self.taken = 0

    def _draw(self, generator: torch.Generator, count: int):
        x = torch.randn(count, 4, generator=generator)
        return x, x.sum(1, keepdim=True) + 0.1 * torch.randn(count, 1, generator=generator)

    def train_batches(self):
        while True:
            yield self._draw(self.data, 8)

    def train_step(self, batch) -> StepResult:
        x, y = batch
        if self.taken == self.options.fail_at:
            raise RuntimeError("the toy broke")
        if self.taken == self.options.signal_at:
            import signal

            signal.raise_signal(signal.SIGINT)
        if self.options.slow:
            import time

            time.sleep(self.options.slow)
        scale = float("nan") if self.taken == self.options.nan_at else 1.0
        self.taken += 1
        report = self.gradient_step([(len(x), lambda: scale * nn.functional.mse_loss(self.model(x), y))])
        return StepResult({"loss": report.loss}, examples=len(x), skipped=report.skipped)

    def evaluate(self, split):
        self.model.eval()
        x, y = self.held_out
        loss = nn.functional.mse_loss(self.model(x), y)
        self.model.train()
        noise = torch.rand(())  # an evaluation may draw, too
        return {"loss": float(loss), "noise": float(noise)}

    def state_dict(self):
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "taken": self.taken}

    def load_state_dict(self, state) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.taken = state["taken"]
