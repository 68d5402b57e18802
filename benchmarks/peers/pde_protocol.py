"""What every program of the benchmark of derivatives does, whatever environment it runs in: only NumPy is needed.

It is given a file with points and the weights of a tanh network, and a limit of address space in MiB. When its first
step is done it says its version and the mean Laplacian, for comparison; after every line on its input, the seconds of
processor time of one more step, and by how many MiB its memory has grown since before the first.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np


def read(path: str) -> tuple[Any, list[tuple[Any, Any]]]:
    """Return points and ``[(weight, bias), …]``."""
    with np.load(path) as file:
        layers = sum(name.startswith("weight") for name in file.files)
        return file["points"], [(file[f"weight{i}"], file[f"bias{i}"]) for i in range(layers)]


def limit(megabytes: int) -> None:
    """Let allocations beyond a limit of address space fail."""
    if megabytes:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))


def _forget_peak() -> None:
    """Let the peak of memory begin at what there is; a program inherits that of the process which started it."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def _peak() -> float:
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = (line for line in file if line.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def answer(version: str, step: Callable[[], Any], exact: bool) -> None:
    """Carry out steps on request; `step` returns the mean Laplacian that it saw, `exact` says whether of all terms."""
    _forget_peak()
    before = _peak()
    try:
        mean = float(step())
    except (MemoryError, RuntimeError) as error:  # torch says RuntimeError, JAX a subclass of it
        print(json.dumps({"version": version, "failed": str(error).splitlines()[0]}), flush=True)
        return
    print(json.dumps({"version": version, "mean": mean if exact else None}), flush=True)
    for _ in sys.stdin:
        begin = time.process_time()
        step()
        print(json.dumps({"seconds": time.process_time() - begin, "memory": _peak() - before}), flush=True)
