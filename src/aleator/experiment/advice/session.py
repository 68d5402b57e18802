"""What every phase of advice works with: the recipe, the workers, the runs that are done, and ``advice.json``.

Whatever is decided is written down before it is acted upon, and a finished run is known by its identity, so that an
interrupted advice goes on where it stopped, with the same decisions.
"""

from __future__ import annotations

import dataclasses
import os
import re
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from aleator.experiment.advice.arms import Trial
from aleator.experiment.comparison.execute import Books, carry_out_all, waiting_runs
from aleator.experiment.comparison.plan import PlannedRun, run_folder
from aleator.experiment.comparison.summary import Results, finished_results
from aleator.experiment.comparison.workers import Job, Outcome, Work, Workers, job_of
from aleator.experiment.files import write_json
from aleator.experiment.identity import identity
from aleator.experiment.options import RunOptions
from aleator.experiment.record import redacted
from aleator.experiment.signals import Interrupted, StopRequests

FILE = "advice.json"
_LOOK_EVERY = 0.25
_SAVE_EVERY = 10.0  # seconds
NEVER = 2**62  # progress between evaluations where only the last one counts


@dataclass
class Session:
    """One process's work on an advice.

    Attributes:
        recipe: with the options as they were given.
        name: what `registry.resolve` finds its class under.
        out: the folder.
        options: of every run; the seed in it is that of the trials.
        crew: where runs are carried out.
        document: the content of ``advice.json``.
        command: the command line, for the record of every run.
        results: of finished runs.
        ended_badly: of the others that were tried.
    """

    recipe: Any
    name: str
    out: Path
    options: RunOptions
    crew: Workers
    document: dict[str, Any]
    command: list[str]
    results: Results = field(default_factory=dict)
    ended_badly: dict[str, Outcome] = field(default_factory=dict)
    _mark: float = field(default_factory=time.monotonic)

    @property
    def look(self) -> dict[str, Any]:
        """What is known of the look that is under way: the last one."""
        look: dict[str, Any] = self.document["looks"][-1]
        return look

    def save(self) -> None:
        """Write ``advice.json``, with the time that was spent until now."""
        now = time.monotonic()
        if self.document["looks"] and not self.look["done"]:
            self.look["spent"] += now - self._mark
        self._mark = now
        self.document["working_directory"] = os.getcwd()
        write_json(self.out / FILE, redacted(self.document))

    def _save_now_and_then(self) -> None:
        """Write down the time that was spent. Runs are known by their folders, so nothing else is lost with it."""
        if time.monotonic() - self._mark > _SAVE_EVERY:
            self.save()

    def left(self) -> float:
        """Return the seconds that are left of the look's time, over all workers together."""
        return (60 * float(self.look["minutes"]) - self.spent()) * self.crew.slots

    def spent(self) -> float:
        """Return the seconds of the look that have passed, those before an interruption included."""
        return float(self.look["spent"]) + time.monotonic() - self._mark

    def during(self, phase: str) -> _Phase:
        """Count what passes in the block as the time of a phase."""
        return _Phase(self, phase)

    # --- runs

    def trial(self, trial: Trial, steps: int, rung: int) -> PlannedRun:
        """Return the run of a trial, which never sees test data."""
        options = dataclasses.replace(self.options, evaluate_every=NEVER, trackers=(), keep_checkpoints=0, test=False)
        return self._planned(trial, steps, options, {"trial": trial.number, "rung": rung})

    def confirming(self, trial: Trial, steps: int, seed: int) -> PlannedRun:
        """Return a run that confirms."""
        return self._planned(trial, steps, dataclasses.replace(self.options, seed=seed, keep_checkpoints=0), {})

    def carry_out(self, planned: Sequence[PlannedRun]) -> None:
        """Carry out the runs that are not finished. One that fails or is refused loses only itself.

        Raises:
            Interrupted: on SIGINT or SIGTERM, after the running runs have saved their state.
        """
        self.results |= finished_results(planned, self.out)
        waiting = waiting_runs(planned, self.results, self.out)
        known = {run.folder for run in planned}
        books = Books(
            self.name,
            self.out,
            self.command,
            {folder: result for folder, result in self.results.items() if folder in known},
            self.ended_badly,
            self._save_now_and_then,
        )
        try:
            if waiting:
                carry_out_all(waiting, self.crew, books, refusal_ends=False)
        finally:
            self.results |= books.results

    def _planned(self, trial: Trial, steps: int, options: RunOptions, tuned: Mapping[str, Any]) -> PlannedRun:
        recipe = self.changed(trial.changes, steps)
        digits = identity(self.name, recipe, options)
        suffix = "".join(f"-{key}{value}" for key, value in tuned.items())
        folder = f"{_slug(trial.arm)}-seed{options.seed}{suffix}-{digits[:8]}"
        return PlannedRun(trial.arm, recipe, options, None, tuned, digits, folder)

    def changed(self, changes: Mapping[str, Any], steps: int | None) -> Any:
        """Return the recipe with some settings and a number of steps."""
        return dataclasses.replace(self.recipe, **changes, **({} if steps is None else {"steps": steps}))

    # --- other jobs

    def job(self, trial: Trial, steps: int | None, **more: Any) -> Job:
        """Return a job on the task of a trial that is no run."""
        run = self._planned(trial, steps, self.options, {}) if steps else self._as_given(trial)
        job = job_of(run, self.name, self.out, self.command)
        return {**job, "folder": str((self.out / "measuring" / _slug(trial.arm)).resolve()), **more}

    def _as_given(self, trial: Trial) -> PlannedRun:
        recipe = self.changed(trial.changes, None)
        return PlannedRun(trial.arm, recipe, self.options, None, {}, "", _slug(trial.arm))

    def carry_out_jobs(self, work: Work, jobs: Mapping[str, Job]) -> dict[str, tuple[Outcome, float]]:
        """Carry out jobs, as many at a time as there are workers, and return how they ended and how long they took.

        Raises:
            Interrupted: on SIGINT or SIGTERM.
        """
        queue, began = deque(jobs), dict[str, float]()
        ended: dict[str, tuple[Outcome, float]] = {}
        with StopRequests(self.crew.kill, self.crew.kill) as stop:
            while len(ended) < len(jobs):
                while queue and len(began) - len(ended) < self.crew.slots:
                    key = queue.popleft()
                    began[key] = time.monotonic()
                    self.crew.start(key, jobs[key], work)
                for key, outcome in self.crew.wait(_LOOK_EVERY).items():
                    ended[key] = outcome, time.monotonic() - began[key]
                if stop.received():
                    self.crew.kill()
                    raise Interrupted("interrupted before the task was measured; the same command begins again")
        return ended


class _Phase:
    def __init__(self, session: Session, name: str) -> None:
        self._session, self._name = session, name

    def __enter__(self) -> None:
        self._began = time.monotonic()

    def __exit__(self, *_: object) -> None:
        seconds = self._session.look["seconds"]
        seconds[self._name] = seconds.get(self._name, 0.0) + time.monotonic() - self._began


def log_of(out: Path, run: PlannedRun) -> Path:
    """Return where a run wrote what it had to say."""
    return run_folder(out, run) / "run.log"


def _slug(text: str) -> str:
    return re.sub(r"[^\w.+=-]+", "-", text, flags=re.ASCII)[:60]
