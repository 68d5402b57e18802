"""The options that belong to the run and not to the recipe."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import tyro

Tracker = Literal["tensorboard", "wandb", "mlflow"]


@dataclass(frozen=True)
class RunOptions:
    """How a run is carried out: its seed, its threads, and when it logs, evaluates and saves."""

    seed: int = 0
    """The seed of every random number of the run."""
    threads: int = 1
    """Threads that torch computes with on the CPU. The order of sums, and so the last bits, depend on it."""
    evaluate_every: int | None = None
    """Evaluate on validation data after this much progress, in the budget's unit. Default: what the task suggests, else
    twenty times."""
    log_every: int = 10
    """Log training metrics every N steps."""
    checkpoint_seconds: float = 60.0
    """Save a checkpoint when this many seconds have passed since the last one; 0 saves after every step."""
    keep_checkpoints: int = 2
    """How many checkpoints to keep; 0 removes them when the run is done."""
    non_finite: Literal["stop", "skip"] = "stop"
    """What to do when a loss is not finite: end the run before the optimizer steps, or skip the step and count it."""
    trackers: tuple[Tracker, ...] = ("tensorboard",)
    """Where metrics go besides metrics.jsonl."""
    test: tyro.conf.Suppress[bool] = True
    """Evaluate on test data at the end; trials of `advise` do not."""

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ValueError: naming the option, the value got and the values accepted.
        """
        at_least = {"seed": 0, "threads": 1, "log_every": 1, "checkpoint_seconds": 0, "keep_checkpoints": 0}
        if self.evaluate_every is not None:
            at_least["evaluate_every"] = 1
        for name, least in at_least.items():
            value = getattr(self, name)
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if self.non_finite not in ("stop", "skip"):
            raise ValueError(f"non_finite must be 'stop' or 'skip', got {self.non_finite!r}")

    def with_seed(self, seed: int) -> RunOptions:
        """Return the same options with another seed."""
        return dataclasses.replace(self, seed=seed)
