"""A process for every run.

A run in a process of its own has its own accelerator, honest peak memory, and a crash that loses only itself. Processes
are forked from a server that has imported torch and computed nothing (``forkserver``), so that starting one costs
milliseconds and not an import of torch; the server has one thread, so no lock is held across the fork. What travels is
JSON: the recipe's name and its options, from which the child rebuilds it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, runtime_checkable

from aleator.experiment import registry
from aleator.experiment.comparison.plan import PlannedRun, run_folder
from aleator.experiment.files import UnusableFolder, described
from aleator.experiment.identity import options_of, recipe_from
from aleator.experiment.locks import wait_until_free
from aleator.experiment.options import RunOptions
from aleator.experiment.own_lines import MODULE, located
from aleator.experiment.signals import Interrupted

Job = dict[str, Any]
Work = Callable[[Job], dict[str, Any]]

# What a child needs of all that is slow to import. The first torch optimizer of a process imports torch._dynamo.
_PRELOADED = ["aleator.experiment.loop", "torch._dynamo", "torch.utils.tensorboard", "safetensors.torch"]

PATIENCE = 30.0
"""Seconds that a run has to save its state and leave when it is asked to; then it is killed."""


@dataclass(frozen=True)
class Outcome:
    """How a job ended.

    Attributes:
        status: ``"refused"`` is bad input: the run cannot work as it was asked for.
        error: one line, for every status but ``"done"``.
        answer: what the work returned.
    """

    status: Literal["done", "refused", "interrupted", "failed"]
    error: str | None = None
    answer: dict[str, Any] | None = None


@runtime_checkable
class Workers(Protocol):
    """Where jobs are carried out: processes of this machine, or a cluster."""

    slots: int
    """How many jobs may be started at once."""

    def start(self, key: str, job: Job, work: Work) -> None:
        """Begin a job."""
        ...

    def wait(self, seconds: float) -> dict[str, Outcome]:
        """Return the jobs that ended, by key; wait for at most ``seconds``."""
        ...

    def interrupt(self) -> None:
        """Ask every running job to save its state and leave."""
        ...

    def kill(self) -> None:
        """End every running job at once."""
        ...

    def close(self) -> None:
        """Give back what was taken."""
        ...


def job_of(run: PlannedRun, name: str, out: Path, command: list[str]) -> Job:
    """Return what a process has to know to carry out a run: values that JSON has words for."""
    return {
        "recipe": registry.absolute(name),
        "options": options_of(run.recipe),
        "run": options_of(run.options),
        "size": run.size,
        "folder": str(run_folder(out, run).resolve()),
        "command": command,
        "working_directory": os.getcwd(),
        # The fork server keeps the environment of its own start.
        "environment": {key: value for key, value in os.environ.items() if key.startswith("ALEATOR_")},
    }


def recipe_and_options(job: Job) -> tuple[Any, RunOptions]:
    """Rebuild a job's recipe and the options of its run.

    Raises:
        ValueError: if the recipe cannot be found or refuses its options.
    """
    run = {**job["run"], "trackers": tuple(job["run"]["trackers"])}
    return recipe_from(job["recipe"], job["options"]), RunOptions(**run)


def carry_out(job: Job) -> dict[str, Any]:
    """Run a job's recipe in this process; an unfinished run goes on from its newest checkpoint, if there is one."""
    from aleator.experiment import loop

    folder = Path(job["folder"])
    wait_until_free(folder, PATIENCE)  # a worker of a comparison that was killed may still be saving
    started_before = (folder / "config.json").exists()
    recipe, options = recipe_and_options(job)
    return loop.run(
        recipe,
        folder,
        options,
        name=job["recipe"],
        resume=started_before,
        size=job["size"],
        command=job["command"],
    )


def build(job: Job) -> dict[str, Any]:
    """Build the task of a job, so that what is wrong with its options comes to light; return its headline and unit."""
    from aleator.experiment.accelerators import make_accelerator
    from aleator.experiment.loop import failures
    from aleator.random import Streams

    recipe, options = recipe_and_options(job)
    with failures(except_for=(ValueError, OSError, ImportError)):
        accelerator = make_accelerator(getattr(recipe, "precision", "float32"))
        streams = Streams(options.seed, accelerator.device)
        with streams.scope("init"):
            task = recipe.task(streams, accelerator)
    return {"headline": task.headline.name, "unit": task.budget.unit}


def outcome_of(work: Work, job: Job) -> Outcome:
    """Do the work with this process's output in the job's ``run.log``, and say how it ended."""
    from aleator.experiment.loop import RunFailed

    folder = Path(job["folder"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        log = (folder / "run.log").open("ab")
    except OSError as error:
        return Outcome("refused", _one_line(error))
    with log, _output_in(log):
        try:
            _enter(job)
            return Outcome("done", answer=work(job))
        except (Interrupted, KeyboardInterrupt) as reason:
            return Outcome("interrupted", _one_line(reason))
        except UnusableFolder as error:  # the fault of this run's folder, and of no other run
            _print_traceback()
            return Outcome("failed", _one_line(error))
        except (ValueError, OSError, ImportError) as error:
            _print_traceback()
            return Outcome("refused", _one_line(error))
        except RunFailed as error:
            _print_traceback()
            return Outcome("failed", _one_line(error))
        except BaseException as error:
            _print_traceback()
            return Outcome("failed", f"{type(error).__name__}: {_one_line(error)}")


class LocalWorkers:
    """Processes on this machine.

    Args:
        slots: how many jobs run at the same time.
        preloaded: modules that every job imports, see `modules_of`: imported once, and not in every process. They count
            for the first workers of this process only, whose server the later ones share.
    """

    def __init__(self, slots: int, preloaded: Sequence[str] = ()) -> None:
        if slots < 1:
            raise ValueError(f"workers must be at least 1, got {slots}")
        self.slots = slots
        self._running: dict[str, tuple[BaseProcess, Connection]] = {}
        self._stillborn: dict[str, Outcome] = {}
        self._killed: set[str] = set()
        methods = multiprocessing.get_all_start_methods()
        self._context: Any = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
        if "forkserver" in methods:
            self._context.set_forkserver_preload([*_PRELOADED, *preloaded])
            # Ctrl-C goes to the comparison alone: the server, too, would answer it with a traceback while it imports.
            resource_tracker.ensure_running()  # else the server would start it, which lets the signals through again
            with _script_not_run_again(), _without_interruption():
                forkserver.ensure_running()

    def start(self, key: str, job: Job, work: Work = carry_out) -> None:
        """Begin a job in a new process."""
        self._killed.discard(key)
        receiver, sender = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_child, args=(work, json.dumps(job), sender, PATIENCE), name=key)
        try:
            with _script_not_run_again():
                process.start()
        except (EOFError, OSError) as error:  # no memory or no more processes; the fork server may have died of it
            self._stillborn[key] = Outcome("failed", f"its process could not be started: {described(error)}")
            receiver.close()
        else:
            self._running[key] = (process, receiver)
        finally:
            sender.close()

    def wait(self, seconds: float) -> dict[str, Outcome]:
        """Return the jobs that ended, by key; wait for at most ``seconds``."""
        if self._stillborn:
            ended_at_once, self._stillborn = self._stillborn, {}
            return ended_at_once
        # A process with a long answer ends when it was read, and one that was killed has none.
        heard: dict[Any, str] = {}
        for key, (process, receiver) in self._running.items():
            heard |= {process.sentinel: key, receiver: key}
        ended = dict.fromkeys(heard[source] for source in wait(list(heard), seconds))
        return {key: self._collect(key) for key in ended}

    def interrupt(self) -> None:
        """Ask every running job to save its state and leave (SIGTERM)."""
        for process, _ in self._running.values():
            process.terminate()

    def kill(self) -> None:
        """End every running job at once (SIGKILL)."""
        self._killed |= self._running.keys()
        for process, _ in self._running.values():
            process.kill()

    def close(self) -> None:
        """End what is still running; it may save its state first."""
        self.interrupt()
        until = time.monotonic() + PATIENCE
        for process, _ in self._running.values():
            process.join(max(0.0, until - time.monotonic()))
        self.kill()
        for key in list(self._running):
            self._collect(key)

    def _collect(self, key: str) -> Outcome:
        process, receiver = self._running.pop(key)
        with receiver:
            try:
                answer = receiver.recv_bytes()
            except (EOFError, OSError):
                answer = b""
        process.join()
        if answer:
            return Outcome(**json.loads(answer))
        if key in self._killed and process.exitcode == -signal.SIGKILL:
            return Outcome("interrupted", "the process was killed before its state was saved")
        return _without_a_word(process.exitcode)


def modules_of(recipe: Any) -> list[str]:
    """Return the modules behind a recipe that are not in a user's file: its own, and that of the task it names."""
    names = [type(recipe).__module__, str(getattr(recipe, "built_by", "")).partition(":")[0]]
    return [name for name in names if name and not name.startswith(MODULE) and name != "__main__"]


def default_workers(threads: int) -> int:
    """Return how many runs with ``threads`` threads each fit on the cores that this process may use; at least 1."""
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # macOS, Windows
        cores = os.cpu_count() or 1
    return max(1, cores // threads)


def _child(work: Work, job: str, answer: Connection, patience: float) -> None:
    if hasattr(signal, "pthread_sigmask"):  # the fork server hears no Ctrl-C
        signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
    if hasattr(os, "setsid"):  # Ctrl-C at the terminal goes to the parent alone, which decides what the children do
        os.setsid()
    threading.Thread(target=_leave_with_the_parent, args=(patience,), daemon=True).start()
    outcome = outcome_of(work, json.loads(job))
    with answer, contextlib.suppress(BrokenPipeError):
        answer.send_bytes(json.dumps(dataclasses.asdict(outcome)).encode())


def _leave_with_the_parent(patience: float) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(patience)
        os.kill(os.getpid(), signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)


@contextlib.contextmanager
def _without_interruption() -> Iterator[None]:
    # A Ctrl-C meanwhile is not lost: it comes when the block ends.
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def _script_not_run_again() -> Iterator[None]:
    # A child of multiprocessing runs the caller's script again to find what it defines. Ours needs nothing from there,
    # and a script without ``if __name__ == "__main__"`` would start a comparison inside each of its own runs.
    script = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextlib.contextmanager
def _output_in(log: BinaryIO) -> Iterator[None]:
    # At the level of file descriptors, so that what compiled code prints is there too.
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger = logging.getLogger("aleator")
    level = logger.level
    _flush()
    before = [os.dup(1), os.dup(2)]
    os.dup2(log.fileno(), 1)
    os.dup2(log.fileno(), 2)
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        _flush()
        for number, saved in enumerate(before, start=1):
            os.dup2(saved, number)
            os.close(saved)


def _print_traceback() -> None:
    with contextlib.suppress(OSError):  # a full disk keeps nobody from hearing what went wrong
        traceback.print_exc()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()


def _enter(job: Job) -> None:
    for key in [key for key in os.environ if key.startswith("ALEATOR_")]:
        del os.environ[key]
    os.environ.update(job["environment"])
    with contextlib.suppress(FileNotFoundError):  # on another machine of a cluster
        os.chdir(job["working_directory"])


def _one_line(error: BaseException) -> str:
    return located(error)[:2000]


def _without_a_word(exit_code: int | None) -> Outcome:
    if exit_code in (-signal.SIGTERM, 128 + signal.SIGINT):
        return Outcome("interrupted", "the process left before its state was saved")
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return Outcome("failed", f"the process was killed by {name}{hint}")
    return Outcome("failed", f"the process ended with exit code {exit_code}")
