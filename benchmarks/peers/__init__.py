"""Programs of other people, each in a virtual environment of its own, driven from ours.

    python -m benchmarks.peers bindsnet brian2 deepxde folx jet stable_baselines3

makes the environments in the folder ``ALEATOR_PEERS`` (``/tmp/peers`` unless set), from the requirements beside this
file; they share no package with ours. A peer's program, ``NAME_peer.py``, runs there, and answers on its standard
output: one line of JSON with its version when it is ready, and after every line on its input one with the seconds of
processor time of the next piece of work. So the sides can take turns on a machine whose speed drifts. Simulators are
given a file with a raster of spikes, the number of hidden cells, the number of samples side by side and of samples at a
time. What programs that take derivatives are given is in `pde_protocol`; learners are given numbers alone.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

HERE = Path(__file__).parent

# What is installed without its dependencies, beside the requirements.
ALONE = {
    "bindsnet": ["bindsnet==0.3.4"],
    "brian2": [],
    "deepxde": [],
    "folx": [],
    "jet": ["jet-for-pytorch==1.0.0", "--ignore-requires-python"],
    "stable_baselines3": [],
}


def python(name: str) -> Path:
    """Return the interpreter of a peer's environment, whether it is there or not."""
    return Path(os.environ.get("ALEATOR_PEERS", "/tmp/peers")) / f"{name}-env" / "bin" / "python"


def install(name: str) -> None:
    """Make the environment of a peer, or bring it up to date."""
    interpreter = python(name)
    venv.create(interpreter.parent.parent, with_pip=True)
    pip = [str(interpreter), "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, "--requirement", str(HERE / f"{name}.txt")], check=True)
    if ALONE[name]:
        subprocess.run([*pip, "--no-deps", *ALONE[name]], check=True)
    if name == "jet":
        _without_type_statement(interpreter)


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
    """Return what starts a peer's program.

    Raises:
        SystemExit: if its environment has not been made.
    """
    interpreter = python(name)
    if not interpreter.exists():
        sys.exit(f"error: no environment of {name} in {interpreter.parent.parent}: python -m benchmarks.peers {name}")
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
        SystemExit: if its environment has not been made.
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
