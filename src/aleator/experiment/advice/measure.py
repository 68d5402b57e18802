"""What runs cost, measured once and under the load of the real runs; equal time is turned into steps here.

    training(steps) = building + starting + steps · seconds per step
    seconds(steps) = training(steps) + (evaluations + 1) · seconds per evaluation

An arm has the steps that fill the time of the baseline's training. What it computes before the first ordinary step (its
model compiled, a subset chosen) takes time from its steps; looking at a model, which is done alike for all, does not.
Where two measurements cannot tell an arm's training from the baseline's, it has as many steps: the chance of a
measurement would else be a handicap for all of its runs, and a difference that many seeds confirm.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import signal
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aleator.experiment.comparison.workers import Job, recipe_and_options
from aleator.stats.advice.effects import student_quantile

WARM_UP_STEPS = 3
EVALUATIONS = 20  # of a run that confirms
LEAST_STEPS = 10  # of which a run is worth the name
USUAL_SPREAD = 0.05  # of one measurement of time, as a share


class TooSlow(Exception):
    """A task takes too long before its first steps."""


@dataclass(frozen=True)
class Cost:
    """What a run of an arm costs.

    Attributes:
        building: seconds until the task is there.
        starting: seconds of the first steps beyond what ordinary ones take, such as for compilation.
        step: seconds of a step; where a run is counted in examples, of as many as a batch of the first size has.
        evaluation: seconds of an evaluation on validation data.
        memory: most bytes that the process held.
    """

    building: float
    starting: float
    step: float
    evaluation: float
    memory: int = 0

    def training(self, steps: int) -> float:
        """Return the seconds of a run without its evaluations."""
        return self.building + self.starting + steps * self.step

    def seconds(self, steps: int, evaluations: int = EVALUATIONS) -> float:
        """Return the seconds of a run."""
        return self.training(steps) + (evaluations + 1) * self.evaluation

    def steps(self, seconds: float) -> int:
        """Return how many steps a training of so many seconds has; 0 if none."""
        return max(0, round((seconds - self.training(0)) / self.step))


@dataclass(frozen=True)
class EqualTime:
    """How long the baseline trains, and what can be told apart from that.

    Attributes:
        steps: of the baseline.
        seconds: of its training.
        tolerance: of the logarithm of two seconds, for arms measured as often as the baseline.
        times: how often that was.
    """

    steps: int
    seconds: float
    tolerance: float
    times: int = 2

    def steps_of(self, cost: Cost, times: int) -> int:
        """Return the steps of an arm that was measured so many times."""
        tolerance = self.tolerance * math.sqrt((1 + self.times / times) / 2)
        apart = abs(math.log(cost.training(self.steps) / self.seconds)) > tolerance
        return cost.steps(self.seconds) if apart else self.steps


def equal_time(measured: Mapping[str, Sequence[Mapping[str, Any]]], baseline: str, steps: int) -> EqualTime:
    """Return what equal time is, from the measurements of all arms.

    How far one measurement is from the next is pooled over arms, without their first steps, which may find compiled
    what another round compiled; two means are told apart with an error of 5 %. Where fewer than two arms were measured
    twice, ``USUAL_SPREAD`` stands in: with one difference t would have its quantile at 12.7, and arms that take
    several times as long would have equal steps.
    """
    squares, freedom = 0.0, 0
    for of_arm in measured.values():
        logs = [math.log(one["building"] + steps * one["step"]) for one in of_arm]
        if len(logs) > 1:
            squares += sum((value - statistics.fmean(logs)) ** 2 for value in logs)
            freedom += len(logs) - 1
    known = freedom > 1
    spread = math.sqrt(squares / freedom) if known else USUAL_SPREAD
    quantile = student_quantile(0.95, freedom) if known else 2.0
    times = len(measured[baseline])
    return EqualTime(
        steps=steps,
        seconds=cost_of(measured[baseline]).training(steps),
        tolerance=quantile * spread * math.sqrt(2 / times),
        times=times,
    )


def cost_of(measured: Sequence[Mapping[str, Any]]) -> Cost:
    """Return what several measurements say: of what is done once the least, of what is done often the median."""
    return Cost(
        building=min(float(one["building"]) for one in measured),
        starting=min(float(one["starting"]) for one in measured),
        step=statistics.median(float(one["step"]) for one in measured),
        evaluation=statistics.median(float(one["evaluation"]) for one in measured),
        memory=max(int(one["memory"]) for one in measured),
    )


def _digest(examples: Any) -> str | None:
    """Return a digest of the targets of examples in memory, by which two drawings of a test part are told apart."""
    from torch import Tensor
    from torch.utils._pytree import tree_flatten

    leaves = [leaf for leaf in tree_flatten(getattr(examples, "targets", None))[0] if isinstance(leaf, Tensor)]
    if not leaves:
        return None
    digest = hashlib.sha256()
    for leaf in leaves:
        digest.update(leaf.detach().cpu().double().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextlib.contextmanager
def _at_most(seconds: float) -> Iterator[None]:
    """End what takes longer, as a compilation that lasts longer than a whole run.

    Raises:
        TooSlow: then.
    """
    main = threading.current_thread() is threading.main_thread()
    if not main or not hasattr(signal, "setitimer") or not math.isfinite(seconds):
        yield
        return

    def late(number: int, frame: object) -> None:
        raise TooSlow(f"no steps after {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def time_steps(job: Job) -> dict[str, Any]:
    """Build a job's task in this process, take steps for ``job["seconds"]``, and say what they cost.

    Where the recipe says of the part ``job["method"]`` that it does not apply, the answer has only ``why``.
    """
    import torch

    from aleator.experiment.accelerators import make_accelerator
    from aleator.experiment.loop import failures
    from aleator.experiment.peak_memory import peak_memory
    from aleator.random import Streams

    recipe, options = recipe_and_options(job)
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    with failures(except_for=(ValueError, OSError, ImportError)), _at_most(job["limit"]):
        accelerator = make_accelerator(getattr(recipe, "precision", "float32"))
        streams = Streams(options.seed, accelerator.device)
        with streams.scope("init"):
            task = recipe.task(streams, accelerator)
        applies, why = getattr(recipe, "applies_by_part", lambda _: {})(task).get(job["method"], (True, ""))
        if not applies:
            return {"why": why}
        building = time.perf_counter() - began

        def wait() -> float:
            if accelerator.device.type == "cuda":
                torch.cuda.synchronize()
            return time.perf_counter()

        mark, progress, steps, starting = wait(), 0, 0, 0.0
        for batch in task.train_batches():
            with streams.scope("step", rank=0):
                result = task.train_step(batch)
            steps += 1
            if steps <= WARM_UP_STEPS:
                now = wait()
                starting, mark = starting + now - mark, now
                continue
            progress += result.progress
            if time.perf_counter() - mark >= job["seconds"] or result.stop:
                break
            if task.budget.total is not None and progress >= task.budget.total:
                break
        training = wait() - mark
        mark = time.perf_counter()
        with streams.scope("evaluate", rank=0), torch.no_grad():
            metrics = {name: float(value) for name, value in task.evaluate("validation").items()}
        evaluation = wait() - mark
    total = task.budget.total
    if not progress or total is None:
        raise ValueError("the task has no end of its own: advise needs runs of a known length")
    asked = getattr(recipe, "steps", None)
    batch_size = getattr(recipe, "batch_size", None) or 1
    whole = asked or (total if task.budget.unit == "steps" else max(1, total // batch_size))
    each = training / progress * total / whole
    return {
        "building": building,
        "starting": max(0.0, starting - WARM_UP_STEPS * training / max(1, steps - WARM_UP_STEPS)),
        "step": each,
        "evaluation": evaluation,
        "memory": peak_memory(accelerator.device),
        "test_digest": _digest(getattr(task, "held_out", {}).get("test")),
        "inside": time.perf_counter() - began,
        "steps": whole,
        "unit": task.budget.unit,
        "headline": {"name": task.headline.name, "direction": task.headline.direction},
        "validation": metrics,
        "device": str(accelerator.device),
        "train_examples": len(task.train) if hasattr(task, "train") else None,
    }
