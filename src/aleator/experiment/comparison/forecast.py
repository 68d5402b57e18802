"""The cost of a comparison before it is begun: runs, time, disk.

The time of a run is the mean of finished runs of the same variant and size, where there are any. Otherwise the task is
built in a process of its own, a few steps and one evaluation are timed, and

    seconds = building + steps · seconds per step + (evaluations + 1) · seconds per evaluation.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aleator.experiment.comparison.plan import PlannedRun, run_folder
from aleator.experiment.comparison.summary import Results
from aleator.experiment.comparison.workers import Job, LocalWorkers, job_of, recipe_and_options

_WARM_UP_STEPS, _TIMED_SECONDS, _TIMED_STEPS = 3, 2.0, 200


@dataclass(frozen=True)
class Forecast:
    """What a comparison will cost.

    Attributes:
        runs: how many runs it has.
        finished: how many of them are finished already.
        to_do: what messages call the others.
        seconds: wall time of what is left, or None when a task has no end of its own.
        bytes: disk that what is left will take.
        measured: how many variants and sizes were timed just now; the others are known from finished runs.
    """

    runs: int
    finished: int
    to_do: list[str]
    seconds: float | None
    bytes: int
    measured: int


@dataclass(frozen=True)
class _Cost:
    seconds: float | None
    bytes: int


def forecast(planned: Sequence[PlannedRun], results: Results, *, name: str, out: Path | None, workers: int) -> Forecast:
    """Return what the runs that are not finished will cost.

    Args:
        planned: every run of the comparison.
        results: of the runs that are finished, which lie in ``out``.
        name: the recipe's name.
        out: the comparison's folder, if it has one already.
        workers: runs at the same time.

    Raises:
        ValueError: for options that cannot work; the line names the variant.
        RuntimeError: if a task breaks while it is timed.
    """
    to_do = [run for run in planned if run.folder not in results]
    known: dict[tuple[str, int | None], list[_Cost]] = {}
    for run in planned:
        if out is not None and run.folder in results:
            cost = _Cost(results[run.folder]["seconds"]["total"], _disk_use(run_folder(out, run)))
            known.setdefault((run.variant, run.size), []).append(cost)
    measured = 0
    for run in to_do:
        if (run.variant, run.size) not in known:
            known[run.variant, run.size] = [_measured(run, name)]
            measured += 1
    costs = [_mean(known[run.variant, run.size]) for run in to_do]
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    return Forecast(
        runs=len(planned),
        finished=len(results),
        to_do=[run.label for run in to_do],
        # The last runs rarely end together: at least as long as the longest run.
        seconds=max([sum(seconds) / workers, *seconds], default=0.0) if len(seconds) == len(costs) else None,
        bytes=sum(cost.bytes for cost in costs),
        measured=measured,
    )


def time_a_few_steps(job: Job) -> dict[str, Any]:
    """Build a job's task in this process and return ``{"seconds", "bytes"}`` of a whole run."""
    import torch

    from aleator.experiment.accelerators import make_accelerator
    from aleator.random import Streams

    recipe, options = recipe_and_options(job)
    torch.set_num_threads(options.threads)
    began = time.perf_counter()
    accelerator = make_accelerator(getattr(recipe, "precision", "float32"))
    streams = Streams(options.seed, accelerator.device)
    with streams.scope("init"):
        task = recipe.task(streams, accelerator)
    building = time.perf_counter() - began
    batches = iter(task.train_batches())
    progress = steps = 0
    mark = time.perf_counter()
    while steps < _WARM_UP_STEPS + _TIMED_STEPS and time.perf_counter() - mark < _TIMED_SECONDS:
        batch = next(batches, None)
        if batch is None:
            break
        with streams.scope("step", rank=0):
            moved = task.train_step(batch).progress
        steps += 1
        if steps == _WARM_UP_STEPS:
            mark, progress = time.perf_counter(), 0
        elif steps > _WARM_UP_STEPS:
            progress += moved
    if accelerator.device.type == "cuda":
        torch.cuda.synchronize()
    training = time.perf_counter() - mark
    mark = time.perf_counter()
    with streams.scope("evaluate", rank=0), torch.no_grad():
        task.evaluate("validation")
    evaluating = time.perf_counter() - mark
    state = io.BytesIO()
    torch.save({"task": task.state_dict(), "streams": streams.state_dict()}, state)
    total = task.budget.total
    seconds = None
    if total is not None and progress > 0:
        every = options.evaluate_every or getattr(task, "evaluate_every", None) or max(1, total // 20)
        seconds = building + training * total / progress + (total / every + 1) * evaluating
    # Checkpoints, and the weights at the end, which are no larger than a checkpoint.
    return {"seconds": seconds, "bytes": state.tell() * (options.keep_checkpoints + 1)}


def _measured(run: PlannedRun, name: str) -> _Cost:
    folder = Path(tempfile.mkdtemp(prefix="aleator-dry-run-"))
    crew = LocalWorkers(1)
    try:
        crew.start(run.folder, job_of(run, name, folder, []), time_a_few_steps)
        while not (ended := crew.wait(1.0)):
            pass
    finally:
        crew.close()
        shutil.rmtree(folder, ignore_errors=True)
    outcome = ended[run.folder]
    if outcome.status == "refused":
        raise ValueError(f"variant {run.variant!r}: {outcome.error}")
    if outcome.answer is None:
        raise RuntimeError(f"variant {run.variant!r} could not be timed: {outcome.error}")
    return _Cost(**outcome.answer)


def _mean(costs: Sequence[_Cost]) -> _Cost:
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    return _Cost(sum(seconds) / len(seconds) if seconds else None, round(sum(c.bytes for c in costs) / len(costs)))


def _disk_use(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
