"""A rehearsal: the first steps of a run, straight, and broken off and resumed, compared bit for bit.

The run loop promises that a resumed run ends as one that was not broken off. A task has its share in that: its
`state_dict` has to hold all that training changes, and what it draws has to come from the run's streams. A rehearsal
carries out real runs, in a folder that is gone afterwards, and says what a task forgot.
"""

from __future__ import annotations

import copy
import dataclasses
import hashlib
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from aleator.experiment.loop import RunFailed, run
from aleator.experiment.options import RunOptions
from aleator.experiment.own_lines import place_of
from aleator.experiment.protocol import StepResult, Task
from aleator.experiment.tracking import read_metrics

STEPS = 4
BROKEN_OFF_BEFORE = 3
_SHOWN = 3  # of the entries of a state that differ


@dataclass(frozen=True)
class Finding:
    """What a rehearsal found in one respect: what holds, or what is wrong."""

    subject: str
    holds: str = ""
    fault: str = ""


@dataclass
class _Watched:
    """What a task did in one run: digests of its batches, then of what it knew, both by step."""

    first: int = 1
    break_off: bool = False
    batches: dict[int, str] = field(default_factory=dict)
    states: dict[int, dict[str, str]] = field(default_factory=dict)
    seconds: list[float] = field(default_factory=list)
    task: Task | None = None

    def copy_of(self, recipe: Any) -> Any:
        """Return the recipe, whose task is watched and ends after `STEPS` steps, or is broken off in the midst."""
        watched = copy.copy(recipe)

        def task(streams: Any, accelerator: Any) -> Task:
            made: Task = type(recipe).task(recipe, streams, accelerator)
            step, number, self.task = made.train_step, self.first - 1, made

            def train_step(batch: Any) -> StepResult:
                nonlocal number
                number += 1
                if self.break_off and number == BROKEN_OFF_BEFORE:
                    raise _BrokenOff
                self.batches[number] = _digest(batch)
                began = time.perf_counter()
                result = step(batch)
                self.seconds.append(time.perf_counter() - began)
                self.states[number] = {path: _digest(leaf) for path, leaf in _leaves(made.state_dict())}
                return dataclasses.replace(result, stop="rehearsed") if number == STEPS else result

            made.train_step = train_step  # type: ignore[method-assign]
            return made

        object.__setattr__(watched, "task", task)
        return watched


class _BrokenOff(Exception):
    """The end of a process, as a rehearsal plays it."""


def rehearse(recipe: Any, name: str, seed: int = 0) -> Iterator[Finding]:
    """Yield what the first steps of a run show, one respect after the other; after a fault nothing more.

    Args:
        recipe: a recipe, see `aleator.experiment.protocol`.
        name: what `registry.resolve` finds its class under.
        seed: of the runs.

    Raises:
        ValueError: if the recipe's options cannot work.
    """
    often = RunOptions(seed=seed, trackers=(), log_every=1, evaluate_every=1, checkpoint_seconds=0.0)
    with tempfile.TemporaryDirectory(prefix="aleator-check-") as scratch:
        straight, broken, resumed = _Watched(), _Watched(break_off=True), _Watched(first=BROKEN_OFF_BEFORE)
        whole, cut = Path(scratch, "whole"), Path(scratch, "cut")
        try:
            result = run(straight.copy_of(recipe), whole, often, name=name)
        except RunFailed as error:
            reached = max(straight.batches, default=0)
            yield Finding("runs", fault=f"{error} (after {reached} steps)" if reached else str(error))
            return
        assert straight.task is not None
        yield Finding("builds", holds=_built(straight.task))
        metric = result["headline"]["name"]
        yield Finding(
            "takes steps",
            holds=f"{len(straight.batches)} in {sum(straight.seconds):.2g} s, then test {metric} "
            f"{result['test'][metric]:.4g}",
        )
        if len(straight.batches) < STEPS:
            yield Finding("resumes", fault=f"not tried: the run has {len(straight.batches)} steps and needs {STEPS}")
            return
        try:
            run(broken.copy_of(recipe), cut, often, name=name)
        except RunFailed as error:
            if not isinstance(error.__cause__, _BrokenOff):
                yield Finding("repeats", fault=f"the second run with this seed failed: {error}")
                return
        if fault := _other(straight, broken, "of two runs with the same seed", _SEED):
            yield Finding("repeats", fault=fault)
            return
        yield Finding("repeats", holds="two runs with the same seed take the same steps")
        try:
            run(resumed.copy_of(recipe), cut, often, name=name, resume=True)
        except (RunFailed, ValueError) as error:
            yield Finding("resumes", fault=f"the run that was broken off cannot go on: {error}")
            return
        fault = _other(straight, resumed, "after a resume and without one", _STATE) or _other_rows(whole, cut)
        if fault and (place := place_of(type(straight.task).state_dict)):
            fault += f" ({place})"
        yield Finding(
            "resumes",
            fault=fault,
            holds="" if fault else f"broken off before step {BROKEN_OFF_BEFORE} and resumed, it takes the same steps",
        )


_SEED = (
    "something draws from a generator that is not of the run's streams, such as NumPy's or Python's",
    "something draws from a generator that is not of the run's streams, or the order of a sum is left to chance",
)
_STATE = (
    "state_dict() has to hold the position of the sampler, and train_batches() to begin at the first batch that "
    "train_step() has not had",
    "state_dict() or load_state_dict() leaves out something that they depend on",
)


def _built(task: Task) -> str:
    total, unit = task.budget.total, task.budget.unit
    length = f"{total} {unit}" if total is not None else f"{unit} without end"
    best = "higher" if task.headline.direction == "max" else "lower"
    return f"{length}; headline {task.headline.name}, {best} is better"


def _other(one: _Watched, two: _Watched, which: str, why: tuple[str, str]) -> str:
    """Return in which step two runs differ, and why that may be; nothing where they do not."""
    for step in sorted(two.batches):
        if one.batches.get(step) != two.batches[step]:
            return f"the batches of step {step} {which} differ: {why[0]}"
        if step not in two.states:
            continue
        paths = one.states[step].keys() | two.states[step].keys()
        other = sorted(path for path in paths if one.states[step].get(path) != two.states[step].get(path))
        if other:
            more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
            return f"{', '.join(other[:_SHOWN])}{more} after step {step} {which} differ: {why[1]}"
    return ""


def _other_rows(whole: Path, cut: Path) -> str:
    """Return the metric that is another in the log of a resumed run; nothing where none is."""
    for one, two in zip(read_metrics(whole / "metrics.jsonl"), read_metrics(cut / "metrics.jsonl"), strict=False):
        names = one["metrics"].keys() | two["metrics"].keys()
        other = sorted(name for name in names if one["metrics"].get(name) != two["metrics"].get(name))
        if other:
            return (
                f"{one['split']} {other[0]} of step {one['step']} is {two['metrics'].get(other[0])} after a resume "
                f"and {one['metrics'].get(other[0])} without one: {_STATE[1]}"
            )
    return ""


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield what is in nested containers and plain objects, by its path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from _leaves(item, f"{path}.{key}" if path else str(key))
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _leaves(item, f"{path}[{index}]")
    elif isinstance(value, (Tensor, np.ndarray, bytes, str, int, float, type(None))):
        yield path, value
    elif hasattr(value, "__dict__"):
        yield from _leaves({name: item for name, item in vars(value).items() if not callable(item)}, path)


def _digest(value: Any) -> str:
    digest = hashlib.sha256()
    for path, leaf in _leaves(value):
        digest.update(path.encode())
        if isinstance(leaf, Tensor):
            leaf = leaf.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy() if leaf.numel() else leaf.shape
        digest.update(leaf.tobytes() if isinstance(leaf, np.ndarray) else repr(leaf).encode())
    return digest.hexdigest()
