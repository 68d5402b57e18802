"""A recipe of one's own: regression with dropout, so that every kind of randomness and state is there."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from aleator.experiment import Budget, Exhibit, GradientStep, Headline, StepResult


class Odd(enum.Enum):
    """What a state must not hold."""

    ONE = 1


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
    stop_at: int = -1
    """End the run in this step, for a reason of the task's own."""
    batches: int = -1
    """Have no more than this many batches."""
    odd_state: bool = False
    """Put something into the state that cannot be read back."""
    batch_norm: bool = False
    """Normalise batches."""
    exhibit: str = ""
    """``"draw"`` has an exhibit, ``"picture"`` one with a file of its own, ``"fail"`` fails to make it."""
    saved: str = ""
    """Save the model under this name, too."""
    say: str = ""
    """A word that changes nothing."""
    path: str = ""
    """A file that has to be there, as a data set is."""
    allocate: int = 0
    """Megabytes that the first step takes."""
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
        if options.path and not Path(options.path).is_file():
            raise FileNotFoundError(f"{options.path} is not a file")
        if options.exhibit:
            self.exhibits = self._exhibits
        self.budget = Budget(options.steps)
        self.evaluate_every = 7
        if options.saved:
            self.saved_models = lambda: {options.saved: self.model}
        norm = nn.BatchNorm1d(4) if options.batch_norm else nn.Identity()
        model = nn.Sequential(norm, nn.Linear(4, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 1))
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
        while self.taken != self.options.batches:
            yield self._draw(self.data, 8)

    def train_step(self, batch) -> StepResult:
        x, y = batch
        if self.taken == self.options.fail_at:
            raise RuntimeError("the toy broke")
        if self.taken == self.options.signal_at:
            import signal

            signal.raise_signal(signal.SIGINT)
        if self.options.allocate and self.taken == 0:
            torch.zeros(self.options.allocate << 18)
        if self.options.slow:
            import time

            time.sleep(self.options.slow)
        if self.taken == self.options.nan_at:
            x = x * float("nan")
        metrics = {"even": torch.tensor(1.0)} if self.taken % 2 == 0 else {}
        reason = "good enough" if self.taken == self.options.stop_at else None
        self.taken += 1
        report = self.gradient_step([(len(x), lambda: nn.functional.mse_loss(self.model(x), y))])
        return StepResult({"loss": report.loss, **metrics}, examples=len(x), skipped=report.skipped, stop=reason)

    def evaluate(self, split):
        self.model.eval()
        x, y = self.held_out
        loss = nn.functional.mse_loss(self.model(x), y)
        self.model.train()
        noise = torch.rand(())  # an evaluation may draw, too
        return {"loss": float(loss), "noise": float(noise)}

    def _exhibits(self):
        if self.options.exhibit == "fail":
            raise KeyError("no picture")
        if self.options.exhibit == "picture":
            return [Exhibit("Drawn", "nothing", picture=b"GIF89a" + bytes([self.taken]), file="drawn.gif")]
        drawn = [float(torch.rand(())), self.taken, float(self.model[1].weight.sum())]
        return [Exhibit("Drawn", "three numbers", plot={"data": [{"y": drawn}]})]

    def state_dict(self):
        odd = {"odd": Odd.ONE} if self.options.odd_state else {}
        return {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "taken": self.taken, **odd}

    def load_state_dict(self, state) -> None:
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.taken = state["taken"]
