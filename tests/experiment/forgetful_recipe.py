"""A recipe whose state may lack the place in its data, as a user's own may."""

from __future__ import annotations

import signal
from dataclasses import dataclass

import torch

from aleator.experiment import Budget, Headline, StepResult


@dataclass(frozen=True)
class Forgetful:
    """Add up numbers."""

    remembers: bool = False
    """Whether the state holds the place."""
    signal_at: int = 5
    """Send this process a SIGINT in this step."""
    breaks_after: bool = False
    """Whether there is an error instead of the batch after the signal."""

    def task(self, streams, accelerator):
        return ForgetfulTask(self)


class ForgetfulTask:
    headline = Headline("total", "max")

    def __init__(self, options: Forgetful) -> None:
        self.options, self.budget = options, Budget(12)
        self.place, self.taken, self.total = 0, 0, torch.zeros(())

    def train_batches(self):
        while True:
            self.place += 1
            if self.options.breaks_after and self.place == self.options.signal_at + 2:
                raise OSError("the file of the next batch is gone")
            yield {"x": torch.full((4,), float(self.place)), "name": "batch"}

    def train_step(self, batch):
        if self.taken == self.options.signal_at:
            signal.raise_signal(signal.SIGINT)
        self.taken += 1
        self.total += batch["x"].sum()
        return StepResult({"loss": torch.zeros(())}, examples=4)

    def evaluate(self, split):
        return {"total": float(self.total)}

    def state_dict(self):
        return {"taken": self.taken, "total": self.total} | ({"place": self.place} if self.options.remembers else {})

    def load_state_dict(self, state):
        self.taken, self.total, self.place = state["taken"], state["total"], state.get("place", 0)
