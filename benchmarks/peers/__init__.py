"""Programs and packages of other people, beside ours and never among them.

    python -m benchmarks.peers                          fetches all of them; a benchmark fetches what it needs itself

What is installed is written beside this file, ``NAME.txt``, with versions, and goes to the folder ``ALEATOR_PEERS``,
``build/peers`` of the checkout unless set. A peer is there in one of two ways. A *package* is read from a folder of its
own into our process, on our torch, see `package`. A *program*, ``NAME_peer.py``, has an environment of its own, which
shares no package with ours. It answers on its standard output: one line of JSON with its version when it is ready, and
after every line on its input one with the seconds of processor time of the next piece of work. So the sides can take
turns on a machine whose speed drifts. Simulators are given a file with a raster of spikes, the number of hidden cells,
the number of samples side by side and of samples at a time. What programs that take derivatives are given is in
`pde_protocol`; learners are given numbers alone.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent
FOLDER = Path(os.environ.get("ALEATOR_PEERS", HERE.parents[1] / "build" / "peers"))

PACKAGES = ("curvature", "pytorch_optimizer", "torch_tract")

# What is installed without its dependencies, beside the requirements.
ALONE = {
    "bindsnet": ["bindsnet==0.3.4"],
    "brian2": [],
    "deepxde": [],
    "folx": [],
    "jet": ["jet-for-pytorch==1.0.0", "--ignore-requires-python"],
    "stable_baselines3": [],
}


class PeerMissing(Exception):
    """A pinned file could not be fetched."""


class rows_of_a_peer:  # it reads as contextlib.suppress does
    """Leave out the rows inside, and say so in one line, where their peer cannot be fetched."""

    def __enter__(self) -> None:
        """Begin."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Say what is missing."""
        if isinstance(error, PeerMissing):
            print(f"left out: {error}", file=sys.stderr)
        return isinstance(error, PeerMissing)


def python(name: str) -> Path:
    """Return the interpreter of a peer's environment, whether it is there or not."""
    return FOLDER / f"{name}-env" / "bin" / "python"


def install(name: str) -> None:
    """Make the environment or the folder of a peer, or bring it up to date.

    Raises:
        PeerMissing: if a file cannot be fetched.
    """
    requirements = HERE / f"{name}.txt"
    if name in PACKAGES:
        target = _folder(name)
        _pip(name, [sys.executable, "-m", "pip", "install", "--upgrade", "--no-deps", "--target", str(target)])
        _done(target).write_bytes(requirements.read_bytes())
        return
    interpreter = python(name)
    venv.create(interpreter.parent.parent, with_pip=True)
    pip = [str(interpreter), "-m", "pip", "install"]
    _pip(name, pip)
    if ALONE[name]:
        _pip(name, [*pip, "--no-deps"], ALONE[name])
    if name == "jet":
        _without_type_statement(interpreter)
    _done(interpreter.parent.parent).write_bytes(requirements.read_bytes())


@contextlib.contextmanager
def package(name: str) -> Iterator[dict[str, str]]:
    """Let a peer's packages be imported inside, by their own names; what is here of ours comes first.

    Args:
        name: of the file with its requirements.

    Yields:
        The version of each package, by its name in small letters.

    Raises:
        PeerMissing: if a file cannot be fetched.
    """
    folder = _folder(name)
    if not _is_up_to_date(name, folder):
        install(name)
    sys.path.append(str(folder))
    try:
        yield {found.name.lower(): found.version for found in distributions(path=[str(folder)])}
    finally:
        sys.path.remove(str(folder))


def _folder(name: str) -> Path:
    return FOLDER / name


def _done(folder: Path) -> Path:
    """Return the file that says what an installation was made from, written when it is whole."""
    return folder / "aleator-requirements.txt"


def _is_up_to_date(name: str, folder: Path) -> bool:
    done = _done(folder)
    return done.exists() and done.read_bytes() == (HERE / f"{name}.txt").read_bytes()


def _pip(name: str, command: list[str], given: list[str] | None = None) -> None:
    requirements = HERE / f"{name}.txt"
    wanted = ["--requirement", str(requirements)] if given is None else given
    if subprocess.run([*command, "--quiet", "--disable-pip-version-check", *wanted], check=False).returncode:
        what = requirements.relative_to(HERE.parents[1]) if given is None else " ".join(given)
        raise PeerMissing(f"what {what} pins could not be fetched; pip's message is above")


def _without_type_statement(interpreter: Path) -> None:
    """Let jet-for-pytorch be imported by Python 3.11: one alias for annotations is written as only 3.12 can read it."""
    (file,) = interpreter.parent.parent.glob("lib/python*/site-packages/jet/utils.py")
    alias = "class PyTree:\n    def __class_getitem__(cls, leaf):\n        return Any\n"
    if sys.version_info < (3, 12):
        file.write_text(
            re.sub(r"^type PyTree\[Leaf\] = \(.*?^\)\n", alias, file.read_text(), flags=re.DOTALL | re.MULTILINE)
        )


class Program:
    """A program at work, which answers as a peer's does.

    Args:
        name: of the program, for messages.
        command: that starts it.
    """

    def __init__(self, name: str, command: list[str]) -> None:
        self._name = name
        threads = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, **threads}
        )
        self.ready = self.answer()
        self.version = str(self.ready["version"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def seconds(self) -> float:
        """Return the seconds of processor time of the next piece of work."""
        return float(self.work()["seconds"])

    def work(self) -> dict[str, Any]:
        """Return all that is said about the next piece of work."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self.answer()

    def answer(self) -> dict[str, Any]:
        """Return the next line of JSON.

        Raises:
            SystemExit: if the program has ended.
        """
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        sys.exit(f"error: the program of {self._name} ended with {self._process.wait()}; its message is above")


def command(name: str, *arguments: object) -> list[str]:
    """Return what starts a peer's program, in an environment that is made if it is not there.

    Raises:
        PeerMissing: if a file cannot be fetched.
    """
    interpreter = python(name)
    if not _is_up_to_date(name, interpreter.parent.parent):
        install(name)
    return [str(interpreter), str(HERE / f"{name}_peer.py"), *map(str, arguments)]


class Peer(Program):
    """A simulator at work.

    Args:
        name: of the peer.
        spikes: the raster of all samples, ``[samples, steps, inputs]``.
        hidden: the number of hidden cells.
        batch: how many samples the peer simulates side by side.
        chunk: how many samples it simulates each time it is asked.

    Raises:
        PeerMissing: if its environment cannot be made.
    """

    def __init__(
        self, name: str, spikes: npt.NDArray[np.bool_], hidden: int, *, batch: int = 1, chunk: int = 1
    ) -> None:
        self._folder = tempfile.TemporaryDirectory()
        raster = Path(self._folder.name) / "spikes.npy"
        np.save(raster, spikes)
        super().__init__(name, command(name, raster, hidden, batch, chunk))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        super().__exit__(kind, error, trace)
        self._folder.cleanup()
