"""A warmed-up interpreter that forks a child for every command, and kills it, or fails the disk, at a chosen operation.

    python -m tests.experiment.injection        reads jobs as lines of JSON, answers each with a line of JSON

Operations are what changes files below a folder: mkdir, create, write, truncate, fsync, rename, unlink, rmdir, in the
order in which the command makes them. They are counted where Python hands them to the system. The interpreter that
forks has one thread, so that a child costs milliseconds and not an import of torch.
"""

from __future__ import annotations

import builtins
import contextlib
import errno
import importlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.launched import as_program, launch

REPOSITORY = Path(__file__).parents[2]

#: What happens at an operation: the process is killed before it, or in the middle of a write; or it fails, once, or it
#: and all that come after it.
HOW = ("kill", "torn", "full", "read-only", "stale")
_ERRORS = {"full": errno.ENOSPC, "read-only": errno.EROFS, "stale": errno.ESTALE}


@dataclass
class Injection:
    """Counts the operations of this process below ``root``, and does ``how`` at number ``at`` (from 0)."""

    root: str
    at: int = -1
    how: str = "kill"
    anywhere: bool = False  # in forked children of this process as well
    operations: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pid = os.getpid()
        self.real_open = io.open
        self._wrap("mkdir", "mkdir")
        for name in ("replace", "rename"):
            self._wrap(name, "rename", which=1)
        for name in ("unlink", "remove"):
            self._wrap(name, "unlink")
        self._wrap("rmdir", "rmdir")
        self._wrap("fsync", "fsync")
        self._wrap("ftruncate", "truncate")
        self._wrap("pwrite", "write")
        self._wrap("open", "create")
        builtins.open = io.open = self._opened

    def tick(self, kind: str, path: str, tear: Any = None) -> None:
        """Count an operation; the one asked for does not come to its end."""
        if (os.getpid() != self.pid and not self.anywhere) or not path.startswith(self.root):
            return
        number = len(self.operations)
        self.operations.append(f"{kind} {path.removeprefix(self.root)}")
        if self.at < 0 or number < self.at:
            return
        if self.how in _ERRORS:
            if self.how == "stale" and (kind != "rename" or number > self.at):
                return
            if self.how == "full" and kind in ("unlink", "rmdir", "truncate"):
                return
            raise OSError(_ERRORS[self.how], os.strerror(_ERRORS[self.how]), None if kind == "write" else path)
        if self.how == "torn" and tear is not None:
            tear()
        os.kill(os.getpid(), signal.SIGKILL)

    def _wrap(self, name: str, kind: str, which: int = 0) -> None:
        real = getattr(os, name)

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            if name == "open":
                flags = args[1] if len(args) > 1 else kwargs["flags"]
                if not flags & os.O_CREAT or os.path.exists(args[0]):
                    return real(*args, **kwargs)
            target = args[which]
            folder = kwargs.get("dir_fd")
            if isinstance(target, int):
                path = os.readlink(f"/proc/self/fd/{target}")
            elif folder is not None:
                path = os.path.join(os.readlink(f"/proc/self/fd/{folder}"), os.fspath(target))
            else:
                path = os.path.abspath(os.fspath(target))
            self.tick(kind, path)
            return real(*args, **kwargs)

        setattr(os, name, wrapped)

    def _opened(
        self,
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if not set(mode) & set("wax+") or opener is not None:
            return self.real_open(file, mode, buffering, encoding, errors, newline, closefd, opener)
        if not isinstance(file, int):
            path = os.path.abspath(os.fspath(file))
            if not os.path.exists(path):
                self.tick("create", path)
        raw = _Raw(file, mode.replace("b", "").replace("t", ""), closefd)
        raw.injection = self
        if "b" in mode and buffering == 0:
            return raw
        buffer = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        if "b" in mode:
            return buffer
        encoding = encoding or "utf-8"
        return io.TextIOWrapper(buffer, encoding, errors, newline, line_buffering=buffering == 1)


class _Raw(io.FileIO):
    injection: Injection

    def write(self, content: Any) -> int:
        path = os.readlink(f"/proc/self/fd/{self.fileno()}")
        half = bytes(content)[: len(bytes(content)) // 2]
        self.injection.tick("write", path, tear=lambda: super(_Raw, self).write(half))
        return super().write(content)

    def truncate(self, size: Any = None) -> int:
        self.injection.tick("truncate", os.readlink(f"/proc/self/fd/{self.fileno()}"))
        return super().truncate(size)


@dataclass
class Ending:
    """How a command ended.

    Attributes:
        code: its exit code, or the negative of the signal that killed it.
        out: what it said.
        err: what it said there.
        operations: that it made, unless it was killed.
        grown: bytes of address space that it took at most, beyond what it began with; 0 if it was killed.
        seconds: of computing.
    """

    code: int
    out: str
    err: str
    operations: list[str]
    grown: int
    seconds: float


class Warm:
    """The interpreter that forks, from here."""

    def __init__(self) -> None:
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path]),
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.experiment.injection"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=REPOSITORY,
        )

    def commands(self, *jobs: dict[str, Any], at_once: int | None = None) -> list[Ending]:
        """Carry out commands, each in a child, all of them or ``at_once`` of them.

        A job has ``argv`` (the words behind ``aleator``; with ``script`` those behind ``python``) and may have ``cwd``,
        ``root`` (count operations below it), ``at`` and ``how`` (do it there), ``prepare`` (the name and arguments of a
        function here, called first), ``user`` (become this one), ``memory`` (bytes of address space beyond what is
        used), ``processes`` (carry a script out in several, see `launch`).
        """
        return [Ending(**ending) for ending in self._asked({"jobs": jobs, "at_once": at_once or len(jobs)})]

    def command(self, *argv: str, **job: Any) -> Ending:
        """Carry out one command."""
        return self.commands({"argv": argv, **job})[0]

    def script(self, path: Path, *args: str, cwd: Path | str = "/") -> Ending:
        """Carry out a Python file, as ``python PATH ARGS…`` does."""
        return self.commands({"argv": [str(path), *args], "script": True, "cwd": str(cwd)})[0]

    def launch(self, folder: Path, count: int, words: Sequence[str], seconds: float) -> Ending:
        """Carry out a Python file in several processes; see `tests.launched`."""
        job = {"argv": list(words), "processes": [str(folder), count, seconds], "cwd": str(REPOSITORY)}
        return self.commands(job)[0]

    def get_ready(self, *modules: str) -> None:
        """Import modules that many commands need."""
        self._asked({"imports": modules})

    def close(self) -> None:
        self._process.kill()  # it has nothing to put in order
        self._process.communicate()

    def _asked(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        answer: list[dict[str, Any]] = json.loads(self._process.stdout.readline())
        return answer


# --- in the warmed-up interpreter ----------------------------------------------------------------------------------


def serve() -> None:
    import torch

    for name in ("commands.compare", "commands.data", "experiment.comparison.execute", "experiment.report.build"):
        importlib.import_module(f"aleator.{name}")
    for name in ("torch._dynamo", "torch.utils.tensorboard", "aleator.experiment.report.comparison_page", "requests"):
        importlib.import_module(name)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
    _warm_up()
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        answers.write(json.dumps(_answer(**json.loads(line))) + "\n")
        answers.flush()


def _warm_up() -> None:
    """Carry out one command here: whatever is imported or read at the first time is there in every child."""
    toy = Path(__file__).with_name("toy_recipe.py")
    with tempfile.TemporaryDirectory() as place:
        words = ["run", f"{toy}:Toy", "--steps", "1", "--trackers", "--out", f"{place}/warm"]
        with open(os.devnull, "w") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
            from aleator.cli import main

            assert main(words) == 0


def _answer(jobs: Sequence[dict[str, Any]] = (), at_once: int = 0, imports: Sequence[str] = ()) -> list[dict[str, Any]]:
    for name in imports:
        importlib.import_module(name)
    threads = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    # That of jemalloc, which comes with pandas, is stopped and begun anew by a fork.
    assert len(threads) - threads.count("jemalloc_bg_thd") == 1, f"a child of several threads may hang: {threads}"
    waiting = list(enumerate(jobs))[::-1]
    running: dict[int, tuple[int, Path]] = {}
    endings: dict[int, dict[str, Any]] = {}
    while waiting or running:
        while waiting and len(running) < at_once:
            number, job = waiting.pop()
            pid, place = _begun(job)
            running[pid] = number, place
        pid, status, usage = os.wait4(-1, 0)
        if pid in running:
            number, place = running.pop(pid)
            endings[number] = {**_ended(status, place), "seconds": round(usage.ru_utime + usage.ru_stime, 3)}
    return [endings[number] for number in range(len(jobs))]


def _begun(job: dict[str, Any]) -> tuple[int, Path]:
    place = Path(tempfile.mkdtemp())
    place.chmod(0o777)
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid, place
    code, before = 70, _memory("VmSize")
    injection = None
    try:
        sys.stdin.close()
        for number, name in ((1, "out"), (2, "err")):
            os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT, 0o666), number)
        os.chdir(job.get("cwd", "/"))
        if name_and_arguments := job.get("prepare"):
            globals()[name_and_arguments[0]](*name_and_arguments[1:])
        if "user" in job:
            os.setgroups([])
            os.setgid(job["user"])
            os.setuid(job["user"])
        if "memory" in job:
            _limit_memory(job["memory"])
        if "root" in job:
            counted = {key: job[key] for key in ("root", "at", "how", "anywhere") if key in job}
            injection = Injection(**counted)
        code = _carried_out(job["argv"], job.get("script", False), job.get("processes"))
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(BaseException):
            grown = _memory("VmPeak") - before
            if injection is not None:
                injection.root = "\0"
            with (injection.real_open if injection is not None else open)(place / "told", "w") as file:
                json.dump({"operations": injection.operations if injection is not None else [], "grown": grown}, file)
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _carried_out(argv: list[str], script: bool, processes: tuple[str, int, float] | None) -> int:
    from accelerate.state import AcceleratorState

    AcceleratorState._reset_state(True)  # a process has one precision, and the command that warmed it up had its own
    if not script and processes is None:
        from aleator.cli import main

        return main(argv)
    if processes is None:
        return as_program(argv)
    folder, count, seconds = processes
    return launch(Path(folder), count, argv, seconds)


def _ended(status: int, place: Path) -> dict[str, Any]:
    import shutil

    def said(name: str) -> str:
        return (place / name).read_text(errors="replace") if (place / name).exists() else ""

    ending = {
        "code": os.waitstatus_to_exitcode(status),
        "out": said("out"),
        "err": said("err"),
        **json.loads(said("told") or '{"operations": [], "grown": 0}'),
    }
    shutil.rmtree(place)
    return ending


def _memory(name: str) -> int:
    """Return a line of this process's memory, in bytes."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(f"{name}:"))
    return int(line.split()[1]) * 1024


def _limit_memory(more: int) -> None:
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + more, used + more))


def fork_workers() -> None:
    """Let a comparison fork its workers from this process, as it has one thread and is warm."""
    import multiprocessing

    from aleator.experiment.comparison import workers

    class Forked(workers.LocalWorkers):
        def __init__(self, slots: int, preloaded: Sequence[str] = ()) -> None:
            self.slots, self._running, self._stillborn, self._killed = slots, {}, {}, set()
            self._context = multiprocessing.get_context("fork")

    workers.PATIENCE = 5.0
    from aleator.experiment.comparison import execute

    execute.LocalWorkers = Forked


def take_small_steps() -> None:
    """Let the recipe spiking learn from two images in a step, so that a small run has checkpoints to go on from."""
    from aleator.recipes.spiking import task

    task.STRIDE = 2


def take_single_steps() -> None:
    """Let the recipe spiking learn from one image in a step."""
    from aleator.recipes.spiking import task

    task.STRIDE = 1


def offer(port: int, sha256: str, size: int) -> None:
    """Put a data set ``served`` of one file into the catalogue, which a server on this machine has."""
    import dataclasses

    from aleator.data.sets.catalog import CATALOG, lookup
    from aleator.data.sets.entries import RemoteFile

    os.environ["NO_PROXY"] = "127.0.0.1"
    file = RemoteFile("file.bin", (f"http://127.0.0.1:{port}/file.bin",), sha256, size)
    CATALOG["served"] = dataclasses.replace(lookup("mnist"), name="served", files=(file,), mirror_files=())


def hold(folder: str, seconds: float) -> None:
    """Hold a folder's lock meanwhile, as another process would."""
    from aleator.experiment.locks import FolderLock

    ready, told = os.pipe()
    if os.fork() == 0:
        lock = FolderLock(Path(folder))
        os.write(told, b"x")
        time.sleep(seconds)
        lock.close()
        os._exit(0)
    os.read(ready, 1)


if __name__ == "__main__":
    serve()
