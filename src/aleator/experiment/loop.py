"""The run loop: from a recipe to a folder of results.

    build the task; resume?; for each batch: step, log, evaluate, save; evaluate on test; write result.json

The loop owns time, files and signals; the task owns mathematics. Everything that decides the numbers is in the
checkpoint: the task, the position and state of every random stream, the metrics gathered since the last log line. A run
that was killed and resumed therefore ends bit-identical to one that was not, on the same CPU type, torch version and
number of threads. Whatever one process may see first (a signal, a reason to stop, the last batch), all processes act on
at the same step.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from accelerate.utils import gather_object
from safetensors.torch import save as to_safetensors

from aleator.experiment import record, registry
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.agreement import Agreement
from aleator.experiment.asked import AskedRun
from aleator.experiment.averages import Averages
from aleator.experiment.checkpoint import CheckpointStore
from aleator.experiment.clock import Clock
from aleator.experiment.exhibit import write_exhibits
from aleator.experiment.files import UnusableFolder, clear_left_overs, described, write_bytes, write_json
from aleator.experiment.identity import environment, options_of
from aleator.experiment.locks import FolderLock, clear_left_over
from aleator.experiment.model_state import are_numbers, models_of, weights_of
from aleator.experiment.next_batch import NextBatch
from aleator.experiment.options import RunOptions
from aleator.experiment.own_lines import own_line
from aleator.experiment.peak_memory import peak_memory
from aleator.experiment.progress import PlainProgress, ProgressDisplay, progress_display
from aleator.experiment.protocol import Split, StepResult, Task
from aleator.experiment.signals import Interrupted, StopRequests
from aleator.experiment.test_examples import gather_test_examples, write_test_examples
from aleator.experiment.tracking import LogPosition, MetricLog, require
from aleator.random import Streams

_log = logging.getLogger("aleator.experiment")

# What the processes of a run agree on after every step; the most urgent wins.
_GO_ON, _SAVE, _LEAVE, _END = range(4)

_NO_BATCH = object()


class RunFailed(Exception):
    """A run broke after it had begun: what the recipe or the machine did, and not what was asked for, is the cause."""


class NonFiniteLoss(RunFailed):
    """A loss was not finite; the optimizer did not step."""


def run(
    recipe: Any,
    out: Path,
    options: RunOptions | None = None,
    *,
    name: str,
    resume: bool = False,
    size: int | None = None,
    command: list[str] | None = None,
) -> dict[str, Any]:
    """Carry out one run and return the content of its ``result.json``.

    Args:
        recipe: a recipe, see `aleator.experiment.protocol`.
        out: the run's folder.
        options: how to run; the defaults of `RunOptions`.
        name: what `registry.resolve` finds the recipe's class under.
        resume: continue from the newest checkpoint in ``out``. A finished run is returned as it is; what is missing
            beside its result is made.
        size: the training size that a comparison set, for the record.
        command: for the record; default: this process's own.

    Raises:
        ValueError: for options that cannot work, or a folder that another process writes, before anything is written.
        Interrupted: on SIGINT or SIGTERM, after the state was saved.
        RunFailed: for any error after that; the error itself is its cause.
        NonFiniteLoss: when a loss is not finite and ``options.non_finite`` is ``"stop"``. A `RunFailed`, too.
    """
    options = options or RunOptions()
    with _threads(options.threads):
        with failures(except_for=(ValueError, OSError, ImportError)):
            asked = AskedRun(
                recipe, Path(out), options, name, registry.absolute(name), resume, size, command or sys.argv
            )
            result = record.read_result(asked.out) if resume else None
            if result is not None and asked.holds_it_whole(result):
                clear_left_over(asked.out)
                _log.info("%s is already finished", out)
                return result
        with contextlib.ExitStack() as stack:
            with failures(except_for=(ValueError, OSError, ImportError)):
                if int(os.environ.get("RANK", "0")) == 0:
                    stack.callback(FolderLock(asked.out).close)
                    clear_left_overs(asked.out, record.FILES)
                asked.check_folder()
                if result is None and resume:  # it may have been written until the lock was free
                    result = record.read_result(asked.out)
                if result is not None and record.is_whole(asked.out, result):
                    if options.keep_checkpoints == 0:  # the kill came while they were deleted
                        CheckpointStore(asked.out / "checkpoints", 0).remove()
                    return result
                under_way = _Run(asked)
                stack.callback(under_way.agreement.close)
                if not under_way.prepare(result):
                    assert result is not None
                    return result
            with failures():
                return under_way.finish()


class _Run:
    """One run under way."""

    def __init__(self, asked: AskedRun) -> None:
        self.clock = Clock()
        recipe, options, name = asked.recipe, asked.options, asked.spec
        self.out, self.options, self.name, self.resume = asked.out, options, name, asked.resume
        self.identity = asked.identity
        require(options.trackers)
        self.accelerator = make_accelerator(getattr(recipe, "precision", "float32"))
        self.rank = self.accelerator.process_index
        self.main = self.accelerator.is_main_process
        if not self.main:  # one process logs for all
            logging.getLogger("aleator").setLevel(logging.ERROR)
        self.agreement = Agreement(self.accelerator.num_processes)
        self.streams = Streams(options.seed, self.accelerator.device)
        with self.streams.scope("init"):
            self.task: Task = recipe.task(self.streams, self.accelerator)
        self.store = CheckpointStore(self.out / "checkpoints", options.keep_checkpoints)
        self.next_batch = NextBatch(self.out / "checkpoints", self.accelerator.num_processes, self.main)
        self.every = options.evaluate_every or getattr(self.task, "evaluate_every", None) or _twentieth(self.task)
        self.config = {
            "recipe": name,
            "recipe_as_given": asked.name,
            "options": record.redacted(options_of(recipe)),
            "seed": options.seed,
            "threads": options.threads,
            "size": asked.size,
            "loop": options_of(options),
            "identity": self.identity,
            "budget": {"total": self.task.budget.total, "unit": self.task.budget.unit},
            "headline": {"name": self.task.headline.name, "direction": self.task.headline.direction},
            "full_size": getattr(self.task, "full_size", None),
            "source_sha256": registry.source_sha256(name),
            "command": record.redacted(asked.command),
            "working_directory": os.getcwd(),
            "processes": self.accelerator.num_processes,
            **environment(),
            "created": _now(),
        }
        # What training changes, besides the task and the streams.
        self.step = self.progress = self.examples = self.skipped = 0
        self.averages = Averages()
        self.best: dict[str, Any] | None = None
        self.latest: dict[str, float] = {}
        self.stopped: str | None = None
        self.restored = False
        self.logged = LogPosition(0, 0, 0)

    # --- the course of a run ---------------------------------------------------------------------------------------

    def prepare(self, result: dict[str, Any] | None) -> bool:
        """Restore the newest checkpoint, if there is one, and return whether there is something to do.

        Args:
            result: of a finished run, of which something else is missing.

        Raises:
            ValueError: if the folder's checkpoints are damaged or another run's.
            TypeError: if the task's state could not be read back.
        """
        if self.main:
            self.store.clear_left_overs()
        try:
            self.restored = self.resume and self._restore()
        except UnusableFolder as error:
            if result is None:
                raise
            _log.warning("%s", error)
            self.restored = False
        if self.restored:
            if self.main:
                self.store.drop_old()
            if not self._is_done():
                self._begin()
            return True
        if result is not None:
            _log.warning("%s is finished; what is missing in it cannot be made without a checkpoint", self.out)
            return False
        if self.resume and (self.out / "result.json").exists():
            raise UnusableFolder(
                f"{self.out / 'result.json'} is damaged and no checkpoint is there to make it again from; "
                f"delete it to begin the run again"
            )
        models_of(self.task)
        state = self.task.state_dict()  # before the first step, and not at the first save
        if self.main:
            self.store.checked({"task": state})
        self._begin()
        return True

    def finish(self) -> dict[str, Any]:
        with contextlib.ExitStack() as stack:
            log = stack.enter_context(contextlib.closing(self._open_log())) if self.main else None
            stop = stack.enter_context(StopRequests(_say_stopping, _leave_at_once))
            if hasattr(self.task, "stop_requested"):
                self.task.stop_requested = stop.received
            self._train(log, stack.enter_context(self._display()), stop)
            # A request to stop that comes now is met by finishing: the state is saved and little is left to do.
            return self._conclude(self._evaluate("test", log) if self.options.test else {})

    def _train(self, log: MetricLog | None, display: ProgressDisplay, stop: StopRequests) -> None:
        total = self.task.budget.total
        saved_at = time.perf_counter()
        batches = iter(self.task.train_batches())
        while not self._is_done():
            step, before = self.step, self.progress
            with self.clock.during("train"):
                ended = self._step(self.next_batch.seen(next(batches, _NO_BATCH)))
            display.advance(self.progress)
            if self.step > step and self.step % self.options.log_every == 0:
                self._log_training(log)
            due = time.perf_counter() - saved_at >= self.options.checkpoint_seconds
            wish = _END if ended else _LEAVE if stop.received() else _SAVE if due and self.main else _GO_ON
            agreed = self.agreement.maximum(wish)
            if agreed == _END:
                self.stopped = self._first_said(self.stopped)
            done = agreed == _END or (total is not None and self.progress >= total)
            if done or before // self.every != self.progress // self.every:
                self.latest = self._evaluate("validation", log)
                display.evaluated(self.progress, _readable(self.latest, self.task.headline.name))
            if done or agreed != _GO_ON:
                self._save(log)
                saved_at = time.perf_counter()
            if agreed == _LEAVE and not done:
                with contextlib.suppress(Exception):  # the state is saved; a batch that breaks will say so in its turn
                    self.next_batch.seen(next(batches, _NO_BATCH))
                raise Interrupted(f"interrupted at {self.progress} {self.task.budget.unit}; the state is saved")

    def _begin(self) -> None:
        """Let a task that works with others find them."""
        getattr(self.task, "begin", lambda: None)()

    def _is_done(self) -> bool:
        total = self.task.budget.total
        return self.stopped is not None or (total is not None and self.progress >= total)

    def _step(self, batch: Any) -> bool:
        """Take a step, and return whether this process has a reason to end the run."""
        if self.agreement.maximum(int(batch is _NO_BATCH)):
            self.stopped = "the task has no more batches"
            return True
        with self.streams.scope("step", rank=self.rank):
            result: StepResult = self.task.train_step(batch)
        self.step += 1
        self.progress += result.progress
        self.examples += result.examples
        self.stopped = result.stop
        if result.skipped:
            self.skipped += 1
            if self.options.non_finite == "stop":
                raise NonFiniteLoss(
                    f"the loss of step {self.step} is not finite; the optimizer did not step "
                    f"(non_finite='skip' leaves such steps out and counts them)"
                )
        else:
            self.averages.add(result.metrics)
        return self.stopped is not None

    def _conclude(self, test: dict[str, float]) -> dict[str, Any]:
        weights = weights_of(self.task)
        examples = None
        if test:
            headline = test[self.task.headline.name]
            examples = gather_test_examples(self.task, headline, self.accelerator.num_processes)
        result = {
            "status": "done",
            "stopped": self.stopped,
            "recipe": self.name,
            "seed": self.options.seed,
            "unit": self.task.budget.unit,
            "steps": self.step,
            "progress": self.progress,
            "examples": self.examples,
            "headline": self.config["headline"],
            "validation": self.latest,
            "test": test,
            "test_examples": len(examples.values) if examples is not None else None,
            "best_validation": self.best,
            "seconds": self.clock.read(),
            "peak_memory_bytes": peak_memory(self.accelerator.device),
            "device": str(self.accelerator.device),
            "skipped_steps": self.skipped,
            "models": list(weights),
            "exhibits": hasattr(self.task, "exhibits"),
            "finished": _now(),
        }
        if self.main:
            for file, tensors in weights.items():
                write_bytes(self.out / f"{file}.safetensors", to_safetensors(tensors))
            if examples is not None:
                write_test_examples(self.out, examples)
            write_json(self.out / "result.json", result)
        self._exhibit()
        # Until everything is written, the last checkpoint is what it can be made again from.
        if self.main and self.options.keep_checkpoints == 0:
            self.store.remove()
        self.accelerator.wait_for_everyone()
        return result

    def _exhibit(self) -> None:
        """Write what the task has to show. Last, since nothing of a run may be lost for a picture."""
        show = getattr(self.task, "exhibits", None)
        if show is None:
            return
        with self.streams.scope("exhibits", rank=self.rank), torch.no_grad():
            exhibits = list(show())
        if self.main:
            write_exhibits(self.out, exhibits)

    # --- its parts -------------------------------------------------------------------------------------------------

    def _open_log(self) -> MetricLog:
        if not self.restored:
            write_json(self.out / "config.json", self.config)
        keep = self.logged if self.restored else None
        return MetricLog(self.out, self.accelerator, self.options.trackers, self.config["options"], keep)

    def _display(self) -> ProgressDisplay:
        budget = self.task.budget
        return (progress_display if self.main else PlainProgress)(budget.total, budget.unit, self.progress)

    def _log_training(self, log: MetricLog | None) -> None:
        means = self.averages.take(self.accelerator.device, lambda t: self.accelerator.reduce(t, reduction="mean"))
        means |= getattr(self.task, "totals", dict)()
        if self.skipped:
            means["skipped_steps"] = float(self.skipped)
        if log is not None:
            log.write(self._row("train", means))

    def _evaluate(self, split: Split, log: MetricLog | None) -> dict[str, float]:
        scope = self.streams.scope("evaluate", rank=self.rank)
        with self.clock.during("evaluate"), scope, torch.no_grad():
            metrics = {name: float(value) for name, value in self.task.evaluate(split).items()}
        headline = self.task.headline
        if headline.name not in metrics:
            raise RunFailed(f"evaluate({split!r}) must return the headline {headline.name!r}, got {', '.join(metrics)}")
        if log is not None:
            log.write(self._row(split, metrics))
        if split == "validation" and math.isfinite(metrics[headline.name]):
            best = self.best["metrics"][headline.name] if self.best else None
            if best is None or headline.better(metrics[headline.name], best):
                self.best = {"step": self.step, "progress": self.progress, "metrics": metrics}
        return metrics

    def _row(self, split: str, metrics: Mapping[str, float]) -> dict[str, Any]:
        return {
            "step": self.step,
            "progress": self.progress,
            "examples": self.examples,
            "seconds": round(self.clock.read()["train"], 6),
            "split": split,
            "metrics": dict(metrics),
        }

    def _first_said(self, reason: str | None) -> str | None:
        """Return the reason to stop of the first process that has one."""
        reasons = gather_object([reason]) if self.accelerator.num_processes > 1 else [reason]
        return next((said for said in reasons if said is not None), None)

    # --- saving and restoring --------------------------------------------------------------------------------------

    _COUNTERS = ("step", "progress", "examples", "skipped", "best", "latest", "stopped")

    def _save(self, log: MetricLog | None) -> None:
        with self.clock.during("checkpoint"):
            own = [{"streams": self.streams.state_dict(), "averages": self.averages.state_dict()}]
            ranks = gather_object(own) if self.accelerator.num_processes > 1 else own
            task = self.task.state_dict()
            sound = are_numbers(task, getattr(self.task, "model", None))
            if self.agreement.maximum(int(not sound)):
                raise NonFiniteLoss(f"the weights after step {self.step} are not finite; they are not saved")
            self.clock.read()
            state = {name: getattr(self, name) for name in self._COUNTERS}
            state |= {"identity": self.identity, "task": task, "ranks": ranks, "seconds": dict(self.clock.seconds)}
            if log is not None:
                position = log.sync(self.step)  # first: what a checkpoint counts on is on the disk
                self.store.save(self.step, state | {"log": vars(position)})
            self.next_batch.after_saving(self.step)

    def _restore(self) -> bool:
        state = self.store.load((*self._COUNTERS, "identity", "task", "ranks", "seconds", "log"))
        if state is None:
            return False
        if state["identity"] != self.identity:
            raise UnusableFolder(
                f"the newest checkpoint in {self.out / 'checkpoints'} is of another run than config.json beside it; "
                f"put back the run's own checkpoints or delete that folder to begin the run again"
            )
        self.task.load_state_dict(state["task"])
        if self.rank < len(state["ranks"]):
            own = state["ranks"][self.rank]
            self.streams.load_state_dict(own["streams"])
            self.averages.load_state_dict(own["averages"])
        else:  # more processes than were saved: the additional ones begin streams of their own
            self.streams.load_state_dict(_shared(state["ranks"][0]["streams"]))
        for name in self._COUNTERS:
            setattr(self, name, state[name])
        self.clock.seconds = state["seconds"]
        self.logged = LogPosition(**state["log"])
        self.next_batch.after_restoring(self.step)
        _log.info("resumed at %d %s", self.progress, self.task.budget.unit)
        return True


def _say_stopping() -> None:
    _log.warning("stopping after this step and saving; Ctrl-C once more to leave at once")


def _leave_at_once() -> None:
    os._exit(128 + signal.SIGINT)


@contextlib.contextmanager
def failures(except_for: tuple[type[Exception], ...] = ()) -> Iterator[None]:
    """Turn every error but interruptions, `RunFailed` and ``except_for`` into a `RunFailed`."""
    try:
        yield
    except Exception as error:
        if isinstance(error, (Interrupted, RunFailed, *except_for)):
            raise
        kind = "" if isinstance(error, OSError) and error.filename else f"{type(error).__name__}: "
        place = own_line(error)
        raise RunFailed(f"{kind}{described(error)}" + (f" ({place})" if place else "")) from error


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    cores = os.cpu_count() or 1
    if count > cores:
        raise ValueError(f"threads must be at most {cores}, the cores of this machine, got {count}")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _twentieth(task: Task) -> int:
    return max(1, task.budget.total // 20) if task.budget.total is not None else 1000


def _readable(metrics: Mapping[str, float], headline: str) -> str:
    others = [name for name in metrics if name not in (headline, "examples")]
    return ", ".join(f"{name} {metrics[name]:.4g}" for name in [headline, *others])


def _shared(state: dict[str, Any]) -> dict[str, Any]:
    """Return the part of a process's stream states that all processes share."""
    shared = {kind: [entry for entry in state[kind] if "rank" not in entry["path"]] for kind in ("torch", "numpy")}
    return {"seed": state["seed"], **shared}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
