"""Runs that are pretended: a recipe whose results are a formula, and workers that write them down at once."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aleator.experiment import registry
from aleator.experiment.comparison.workers import Outcome, carry_out, recipe_and_options
from aleator.experiment.identity import identity, options_of

NAME = f"{Path(__file__).resolve()}:Pretended"
ARMS = {
    "Trick": [{"trick": "on"}, {"trick": "more"}],
    "Slow": [{"slow": True}],
    "Own rate": [{"optimizer": "other", "lr": None}],
}


@dataclass(frozen=True)
class Pretended:
    """Options, as a recipe has them."""

    lr: float | None = 0.1
    weight_decay: float = 1e-3
    optimizer: str = "usual"
    trick: str = "off"
    slow: bool = False
    steps: int | None = None

    def __post_init__(self) -> None:
        if self.trick not in ("off", "on", "more"):
            raise ValueError(f"trick must be off, on or more, got {self.trick}")

    @property
    def peak_lr(self) -> float:
        """The rate in use."""
        return self.lr or (0.1 if self.optimizer == "usual" else 0.02)

    def task(self, streams, accelerator):
        """Nothing is trained here."""
        raise AssertionError


def accuracy(options: dict[str, Any], seed: int, gains: dict[str, float]) -> float:
    """Best at its own rate and at 200 steps or more; a little noise that depends on the seed and the method."""
    best = 0.1 if options["optimizer"] == "usual" else 0.02
    rate = options["lr"] or best
    far = abs(math.log10(rate / best))
    method = "trick" if options["trick"] != "off" else "slow" if options["slow"] else options["optimizer"]
    noise = (zlib.crc32(f"{seed} {method}".encode()) / 2**32 - 0.5) * 0.01
    return 0.8 - 0.05 * far - 5 / (100 + options["steps"]) + gains.get(method, 0.0) + noise


@dataclass
class Pretence:
    """Workers that carry out nothing.

    Attributes:
        gains: of methods, in accuracy.
        spoiled: returns how a job ends, where it does not end well.
        step: seconds of a step.
        stop_after: raise this many runs later.
    """

    gains: dict[str, float] = field(default_factory=dict)
    spoiled: Callable[[dict[str, Any]], Outcome | None] = lambda options: None
    step: float = 0.006
    stop_after: int = 10**9
    slots: int = 2
    ran: list[dict[str, Any]] = field(default_factory=list)
    _ended: dict[str, Outcome] = field(default_factory=dict)

    def start(self, key: str, job: dict[str, Any], work: Any) -> None:
        """End a job at once."""
        job = json.loads(json.dumps(job))
        bad = self.spoiled({**job["options"], "seed": job["run"]["seed"]})
        if bad is not None:
            self._ended[key] = bad
        elif work is carry_out:
            if len(self.ran) >= self.stop_after:
                self._ended.clear()
                raise KeyboardInterrupt
            self.ran.append(job)
            self._ended[key] = Outcome("done", answer=self._run(job))
        else:
            self._ended[key] = Outcome("done", answer=self._cost(job["options"]))

    def wait(self, seconds: float) -> dict[str, Outcome]:
        """Return what has ended: all."""
        ended, self._ended = self._ended, {}
        return ended

    def interrupt(self) -> None:
        """Nothing runs."""

    def kill(self) -> None:
        """Nothing runs."""

    def close(self) -> None:
        """Nothing runs."""

    def _cost(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "building": 0.1,
            "starting": 0.0,
            "step": self.step * (2 if options["slow"] else 1),
            "evaluation": 0.01,
            "memory": 2**20,
            "inside": 0.0,
            "test_digest": None,
            "steps": options["steps"] or 200,
            "unit": "steps",
            "headline": {"name": "accuracy", "direction": "max"},
            "validation": {"accuracy": 0.5, "examples": 100.0},
            "device": "cpu",
            "train_examples": 1000,
        }

    def _run(self, job: dict[str, Any]) -> dict[str, Any]:
        recipe, run = recipe_and_options(job)
        value = accuracy(job["options"], run.seed, self.gains)
        folder = Path(job["folder"])
        folder.mkdir(parents=True)
        config = {"recipe": job["recipe"], "options": options_of(recipe), "seed": run.seed, "threads": 1}
        config |= {"loop": options_of(run), "identity": identity(NAME, recipe, run), "schema_version": 1}
        (folder / "config.json").write_text(json.dumps(config))
        row = {"step": 1, "progress": 1, "examples": 1, "seconds": 0.5, "split": "validation"}
        (folder / "metrics.jsonl").write_text(json.dumps(row | {"metrics": {"accuracy": value}}) + "\n")
        result = {
            "schema_version": 1,
            "headline": {"name": "accuracy", "direction": "max"},
            "validation": {"accuracy": value, "examples": 100.0},
            "test": {"accuracy": value, "examples": 1000.0} if run.test else {},
            "seconds": {"total": 0.1 + 0.01 + self.step * job["options"]["steps"], "train": 0.1},
            "steps": job["options"]["steps"],
            "unit": "steps",
            "peak_memory_bytes": 2**20,
            "models": [],
        }
        (folder / "result.json").write_text(json.dumps(result))
        return result


def changed(options: dict[str, Any]) -> str:
    """Return which arm a job's options are of."""
    if options["trick"] != "off":
        return "Trick"
    return "Slow" if options["slow"] else "Own rate" if options["optimizer"] == "other" else "baseline"


assert registry.is_file(NAME)
