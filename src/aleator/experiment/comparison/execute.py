"""Variants compared: every run of the grid carried out, and ``comparison.json`` written.

    plan the runs; leave out those that are finished; carry out the rest, each in a process of its own; summarise

The summary is rewritten whenever a run ends, so an interrupted comparison can be reported on, and the same command
goes on where it stopped: finished runs are kept, unfinished ones continue from their checkpoints. A run that fails
loses only itself. Bad input in any run stops the comparison, because it would be the same with every other seed. One
process at a time carries out the comparison of a folder.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aleator.experiment.comparison import workers as local
from aleator.experiment.comparison.forecast import forecast
from aleator.experiment.comparison.plan import PlannedRun, Variant, plan_runs, run_folder
from aleator.experiment.comparison.progress import ComparisonProgress, clock
from aleator.experiment.comparison.size_forecast import check_horizon
from aleator.experiment.comparison.summary import (
    Results,
    check_folder,
    finished_result,
    finished_results,
    headline_of,
    summarise,
)
from aleator.experiment.comparison.workers import (
    LocalWorkers,
    Outcome,
    Workers,
    build,
    carry_out,
    default_workers,
    job_of,
    modules_of,
)
from aleator.experiment.files import clear_left_overs, read_json, write_json
from aleator.experiment.locks import FolderLock
from aleator.experiment.options import RunOptions
from aleator.experiment.record import is_whole, redacted
from aleator.experiment.shares import check_target
from aleator.experiment.signals import Interrupted, StopRequests

_log = logging.getLogger("aleator.experiment")

_LOOK_EVERY = 0.25  # seconds between two looks at signals and progress


def compare(
    variants: Sequence[Variant],
    *,
    name: str,
    seeds: Sequence[int],
    out: Path,
    options: RunOptions | None = None,
    sizes: Sequence[int] | None = None,
    tune: tuple[str, Sequence[Any]] | None = None,
    target: float | None = None,
    horizon: int | None = None,
    workers: int | None = None,
    ray: str | None = None,
    command: list[str] | None = None,
) -> dict[str, Any]:
    """Carry out a comparison, or what is left of it, and return the content of ``comparison.json``.

    Args:
        variants: what is compared; the first one is the baseline.
        name: what `registry.resolve` finds the recipe's class under.
        seeds: every variant runs once with each.
        out: the comparison's folder; a folder with a comparison of the same recipe is continued.
        options: of every run; the seed in it is replaced.
        sizes: training sizes (nested subsets), put into the recipe's field ``train_size``.
        tune: a field and the values that every variant tries; each variant reports the one best on validation.
        target: value of the validation headline whose time and steps are reported. Default: the baseline's mean at the
            end of its runs. Where there are three sizes or more, also the test headline whose training size is
            forecast, if it is given.
        horizon: the training size that three sizes or more forecast the headline at. Default: the whole training set
            if the task says how large it is, or twice the largest size.
        workers: runs at the same time. Default: as many as the usable cores hold with ``options.threads`` each.
        ray: address of a Ray cluster that carries out the runs instead of local processes, or ``"local"``.
        command: the command line, for the record.

    Returns:
        The content of ``comparison.json``. Where ``"failures"`` is not empty, some runs did not finish.

    Raises:
        ValueError: for options that cannot work, in the comparison or in a run (the line names the variant), or a
            folder that another process writes.
        ImportError: if Ray is asked for and not installed.
        Interrupted: on SIGINT or SIGTERM, after the running runs have saved their state.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("a comparison starts processes of its own and must not be started by torchrun or the like")
    check_horizon(sizes, horizon)
    options, out, command = options or RunOptions(), Path(out), command or []
    planned = plan_runs(variants, seeds, name=name, options=options, sizes=sizes, tune=tune)
    check_folder(out, name)
    try:
        lock = FolderLock(out)
    except OSError:  # what is finished can be read where nothing can be written
        if waiting_runs(planned, finished_results(planned, out), out) or not (out / "comparison.json").exists():
            raise
        return read_json(out / "comparison.json")
    with contextlib.closing(lock):
        return _compare(
            variants,
            planned,
            name=name,
            out=out,
            threads=options.threads,
            target=target,
            horizon=horizon,
            workers=workers,
            ray=ray,
            command=command,
        )


def _compare(
    variants: Sequence[Variant],
    planned: Sequence[PlannedRun],
    *,
    name: str,
    out: Path,
    threads: int,
    target: float | None,
    horizon: int | None,
    workers: int | None,
    ray: str | None,
    command: list[str],
) -> dict[str, Any]:
    clear_left_overs(out, ["comparison.json"])
    results = finished_results(planned, out)
    if (headline := headline_of(results)) is not None:
        check_target(target, headline.name)
    ended_badly: dict[str, Outcome] = {}

    def write() -> None:
        content = summarise(
            variants,
            planned,
            results,
            ended_badly,
            out=out,
            name=name,
            target=target,
            command=command,
            horizon=horizon,
        )
        content["working_directory"] = os.getcwd()
        write_json(out / "comparison.json", redacted(content))

    waiting = waiting_runs(planned, results, out)
    try:
        if waiting:
            crew = make_crew(workers, ray, threads, out, modules_of(variants[0].recipe))
            with contextlib.closing(crew):
                units = {run.variant: results[run.folder]["unit"] for run in planned if run.folder in results}
                _refuse_early(waiting, crew, Books(name, out, command, results, ended_badly, write), target, units)
                write()  # what is asked for, so that the folder alone is enough to go on
                carry_out_all(waiting, crew, Books(name, out, command, results, ended_badly, write))
    finally:
        if results or ended_badly:
            write()
    for run in planned:
        if (outcome := ended_badly.get(run.folder)) is not None:
            log = run_folder(out, run) / "run.log"
            _log.error("%s did not finish: %s (log: %s)", run.label, outcome.error, log)
    return read_json(out / "comparison.json")


def dry_run(
    variants: Sequence[Variant],
    *,
    name: str,
    seeds: Sequence[int],
    out: Path | None = None,
    options: RunOptions | None = None,
    sizes: Sequence[int] | None = None,
    tune: tuple[str, Sequence[Any]] | None = None,
    horizon: int | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> list[str]:
    """Say in a few lines what `compare` with the same arguments would cost. Nothing is written to ``out``.

    Raises:
        ValueError: for options that cannot work; the line names the variant.
        RuntimeError: if a task breaks while it is timed.
    """
    check_horizon(sizes, horizon)
    options = options or RunOptions()
    planned = plan_runs(variants, seeds, name=name, options=options, sizes=sizes, tune=tune)
    results: Results = {}
    if out is not None:
        check_folder(out, name)
        results = finished_results(planned, out)
    slots = workers if workers is not None else 1 if ray is not None else default_workers(options.threads)
    cost = forecast(planned, results, name=name, out=out, workers=slots)
    at_once = f"{slots} at a time" if slots > 1 else "one at a time"
    shared = "; a cluster shares it over its cores" if ray is not None and workers is None else ""
    seconds = "unknown: a task has no end of its own" if cost.seconds is None else f"about {clock(cost.seconds)}"
    source = f" ({cost.measured} timed now)" if cost.measured else " (from finished runs)" if results else ""
    return [
        f"runs: {cost.runs}, of which {cost.finished} are finished",
        *(f"  to do: {label}" for label in cost.to_do),
        f"time: {seconds}, {at_once}{source}{shared}",
        f"disk: about {cost.bytes / 1e6:.1f} MB",
    ]


@dataclass(frozen=True)
class Books:
    """What is known about the runs, and where it is written down."""

    name: str
    out: Path
    command: list[str]
    results: Results
    ended_badly: dict[str, Outcome]
    write: Callable[[], None]

    def enter(self, run: PlannedRun, outcome: Outcome) -> str:
        """Write down how a run ended, and return it as text."""
        self.ended_badly.pop(run.folder, None)
        result = finished_result(self.out, run) if outcome.status == "done" else None
        if result is None:
            if outcome.status == "done":
                outcome = Outcome("failed", "its result is of another identity: did the library or the recipe change?")
            self.ended_badly[run.folder] = outcome
            self.write()
            return outcome.error or outcome.status if outcome.status == "interrupted" else f"failed: {outcome.error}"
        self.results[run.folder] = result
        self.write()
        headline = result["headline"]["name"]
        # The test metrics of a trial are nobody's business: the choice is made on validation.
        split = "validation" if run.tuned else "test"
        value = result[split].get(headline)
        return f"{split} {headline} {value:.4g}" if value is not None else "done"


def carry_out_all(waiting: Sequence[PlannedRun], crew: Workers, books: Books, refusal_ends: bool = True) -> None:
    """Carry out runs, as many at a time as there are slots.

    Args:
        waiting: the runs that are not finished.
        crew: where they are carried out.
        books: where their ends are written down.
        refusal_ends: whether bad input in one run ends all; else it loses only itself.

    Raises:
        ValueError: for bad input; the line names the variant.
        Interrupted: on SIGINT or SIGTERM, after the running runs have saved their state.
    """
    queue = deque(waiting)
    running: dict[str, PlannedRun] = {}
    refused: str | None = None
    finished = len(books.results.keys() - {run.folder for run in waiting})
    total = len(waiting) + finished
    progress = ComparisonProgress(total, finished, crew.slots)
    leave_by = math.inf
    with StopRequests(lambda: _stop_gently(crew), crew.kill) as stop, progress:
        while running or (queue and refused is None and not stop.received()):
            while queue and refused is None and not stop.received() and len(running) < crew.slots:
                run = queue.popleft()
                running[run.folder] = run
                crew.start(run.folder, job_of(run, books.name, books.out, books.command), carry_out)
                if stop.received():  # the request came while the process was being started
                    crew.interrupt()
                progress.started(run.folder, run.label, run_folder(books.out, run))
            if stop.received() or refused is not None:
                leave_by = min(leave_by, time.monotonic() + local.PATIENCE)
            if time.monotonic() > leave_by:
                crew.kill()
            for folder, outcome in crew.wait(_LOOK_EVERY).items():
                run = running.pop(folder)
                if outcome.status == "refused" and refused is None and refusal_ends:
                    refused = f"variant {run.variant!r}: {outcome.error}"
                    crew.interrupt()
                # Once the comparison is known to be asked for wrongly, that is the one thing to say.
                said = books.enter(run, outcome) if refused is None or outcome.status == "done" else None
                progress.ended(folder, said, outcome.status == "done")
            progress.refresh()
    if refused is not None:
        _clear_unstarted(books.out, waiting)
        raise ValueError(refused)
    if stop.received():
        done = f"{len(books.results)} of {total} runs"
        raise Interrupted(f"interrupted with {done} finished; the same command goes on from there")


def waiting_runs(planned: Sequence[PlannedRun], results: Results, out: Path) -> list[PlannedRun]:
    """Return the runs that are not finished, or of which something is missing beside the result."""
    return [
        run for run in planned if run.folder not in results or not is_whole(run_folder(out, run), results[run.folder])
    ]


def _refuse_early(
    waiting: Sequence[PlannedRun], crew: Workers, books: Books, target: float | None, units: dict[str, str]
) -> None:
    """Build the task of each variant once before anything is trained, so that bad input costs seconds and not hours.

    A single variant is its own check, unless there is a target, which only the task's headline can judge, or runs that
    are done. ``units`` says what these are counted in, by variant: a run of a thousand steps and one of a thousand
    examples are no pair.

    Raises:
        ValueError: if a variant cannot work, no headline can be the target, or variants are counted in different units;
            the line names the variant.
    """
    kinds = {(run.variant, run.size, json.dumps(run.tuned, default=str)): run for run in waiting}
    queue = deque(kinds.values() if len(kinds) > 1 or target is not None or units else ())
    building: dict[str, PlannedRun] = {}
    with StopRequests(crew.kill, crew.kill) as stop:
        while queue or building:
            while queue and len(building) < crew.slots:
                run = queue.popleft()
                building[run.folder] = run
                crew.start(run.folder, job_of(run, books.name, books.out, books.command), build)
            for folder, outcome in crew.wait(_LOOK_EVERY).items():
                run = building.pop(folder)
                refused = outcome.error if outcome.status == "refused" else None
                if outcome.answer is not None:
                    try:
                        check_target(target, outcome.answer["headline"])
                        _check_unit(run.variant, outcome.answer["unit"], units)
                    except ValueError as error:
                        refused = str(error)
                if refused is not None:
                    crew.kill()
                    _clear_unstarted(books.out, waiting)
                    raise ValueError(f"variant {run.variant!r}: {refused}")
            if stop.received():
                raise Interrupted("interrupted before anything was trained; the same command starts it")


def _check_unit(variant: str, unit: str, units: dict[str, str]) -> None:
    """Refuse a variant that is counted in another unit than the others, and note its unit."""
    for other, of_other in units.items():
        if of_other != unit:
            raise ValueError(f"it is counted in {unit} and variant {other!r} in {of_other}; compare runs of one unit")
    units[variant] = unit


def _clear_unstarted(out: Path, waiting: Sequence[PlannedRun]) -> None:
    """Remove the folders of runs that never began, and those above them that are then empty."""
    folders = [run_folder(out, run) for run in waiting]
    for folder in folders:
        if not (folder / "config.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
    if not any((out / "runs").glob("*/config.json")):
        (out / "comparison.json").unlink(missing_ok=True)
    for folder in (folders[0].parent, out):
        with contextlib.suppress(OSError):  # not empty
            folder.rmdir()


def _stop_gently(crew: Workers) -> None:
    _log.warning("stopping: the running runs save their state; Ctrl-C once more to leave at once")
    crew.interrupt()


def make_crew(workers: int | None, ray: str | None, threads: int, out: Path, preloaded: Sequence[str] = ()) -> Workers:
    """Return where jobs are carried out: a Ray cluster where an address is given, else processes of this machine."""
    if ray is not None:
        from aleator.experiment.comparison.ray_workers import RayWorkers

        return RayWorkers(ray, threads=threads, out=out, slots=workers)
    return LocalWorkers(default_workers(threads) if workers is None else workers, preloaded)
