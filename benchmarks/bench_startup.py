"""What a short run takes beyond the import of torch: ``aleator run classify --rounds 1`` in a process of its own.

Its peer is the limit: a process that imports torch. The first optimizer of a process imports torch._dynamo, which takes
as long again, whoever makes it; what a run could do without is therefore seen against the second peer, a process that
imports torch and makes an optimizer. All processes take turns; times are of their CPU.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.pairs import Pairs

ROUNDS = 6
LIMITS = {
    "import torch": ("import torch", "overhead ≤ 0.7"),
    "import torch, and its first optimizer": ("import torch; torch.optim.SGD([torch.zeros(1)])", ""),
}


def benchmark() -> list[dict[str, Any]]:
    """Return the CPU time of a run over that of either limit."""
    ours: list[float] = []
    limits: dict[str, list[float]] = {name: [] for name in LIMITS}
    for number in range(ROUNDS + 1):  # the first fills the file system's cache
        with TemporaryDirectory() as folder:
            ours.append(_seconds("-m", "aleator", "run", "classify", "--rounds", "1", "--out", str(Path(folder) / "o")))
        for name, (program, _) in LIMITS.items():
            limits[name].append(_seconds("-c", program))
        if number == 0:
            ours.clear()
            for seconds in limits.values():
                seconds.clear()
    what = "aleator run classify --rounds 1, from its start to its end, CPU"
    return [
        Pairs(ours, limits[name]).row(what, name, target, figure="overhead") for name, (_, target) in LIMITS.items()
    ]


def _seconds(*words: str) -> float:
    """Return the CPU seconds of a Python process, its children included."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} ended with exit code {process.returncode}")
    return usage.ru_utime + usage.ru_stime
