"""Derivatives in many dimensions: time and memory of a step, ours against DeepXDE, a naive Hessian, jet and folx.

A step is the gradient of the mean squared Laplacian of a tanh network (d-128-128-128-1, 100 points, float32) in its
weights, by one thread. Every side is a program of its own, on the same weights and points, and the sides take turns.

- **Sampled against exact**: 10 dimensions of d (`SDGD`) against DeepXDE, which takes one second derivative after
  another, and the trace of ``torch.func.hessian``. Programs are given 6 GiB of address space; one that needs more is
  said to have failed.
- **Exact against exact**: our collapsed Taylor mode against jet-for-pytorch, which has it from a captured graph, and
  folx, compiled by XLA. All must find the same mean Laplacian.

Seconds are of processor time. Memory is the growth of a program's largest resident set since before its first step.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import nn

from aleator.random import Streams
from benchmarks.pairs import Pairs
from benchmarks.peers import Program, command, rows_of_a_peer

POINTS, WIDTH = 100, 128
LIMIT = 6144  # MiB
FEW = 5  # pairs where a step takes seconds
PAIRS = 9


def benchmark() -> list[dict[str, Any]]:
    """Return peer / ours for time and memory."""
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for dim in (100, 1000):
            case = _case(Path(folder), dim)
            for peer in ("deepxde", "naive"):
                with rows_of_a_peer():
                    rows += _compare("sdgd", peer, dim, case, target="≥ 10", limit=LIMIT)
            for peer in ("jet", "folx"):
                with rows_of_a_peer():
                    rows += _compare("exact", peer, dim, case, target="≥ 1", limit=0)
        rows += _compare("sdgd", "naive", 10_000, _case(Path(folder), 10_000), target="finishes", limit=LIMIT)
    return rows


def _case(folder: Path, dim: int) -> Path:
    """Write points and weights."""
    import numpy as np

    with Streams(0).scope("init"):
        linears = [nn.Linear(a, b) for a, b in ((dim, WIDTH), (WIDTH, WIDTH), (WIDTH, WIDTH), (WIDTH, 1))]
        points = torch.randn(POINTS, dim) / dim**0.5
    arrays = {f"weight{i}": linear.weight.detach().numpy() for i, linear in enumerate(linears)}
    arrays |= {f"bias{i}": linear.bias.detach().numpy() for i, linear in enumerate(linears)}
    path = folder / f"{dim}.npz"
    np.savez(path, points=points.numpy(), **arrays)  # type: ignore[arg-type]
    return path


def _start(name: str, case: Path, limit: int) -> Program:
    if name in ("sdgd", "exact", "naive"):
        return Program(name, [sys.executable, "-m", "benchmarks.pde_steps", name, str(case), str(limit)])
    return Program(name, command(name, case, limit))


def _compare(ours: str, peer: str, dim: int, case: Path, *, target: str, limit: int) -> list[dict[str, Any]]:
    pairs = FEW if dim >= 1000 or peer in ("deepxde", "naive") else PAIRS
    named = {"sdgd": "10 sampled dimensions", "exact": "all dimensions"}[ours]
    what = f"of {dim}, {named}"
    with contextlib.ExitStack() as both:
        mine, other = (both.enter_context(_start(name, case, limit)) for name in (ours, peer))
        label = {"naive": "torch.func.hessian"}.get(peer, f"{peer} {other.version}")
        if "failed" in other.ready:
            done = mine.work()
            least = limit / done["memory"]  # it needs more than the limit
            return [
                {
                    "what": f"memory of a step, {what}, in {done['seconds']:.2g} s",
                    "ours": f"{done['memory']:.4g} MiB",
                    "peer": f"{label}: fails, more than {limit} MiB",
                    "ratio": {"median": least, "low": least, "high": least},
                    "pairs": 1,
                    "target": target,
                }
            ]
        if ours == "exact" and abs(mine.ready["mean"] - other.ready["mean"]) > 1e-4 * abs(other.ready["mean"]):
            sys.exit(f"error: mean Laplacians differ: {mine.ready['mean']} and, of {peer}, {other.ready['mean']}")
        answers = [(mine.work(), other.work()) for _ in range(pairs)]
    seconds = Pairs([a["seconds"] for a, _ in answers], [b["seconds"] for _, b in answers])
    last_ours, last_peer = answers[-1]
    memory = Pairs([max(last_ours["memory"], 0.1)], [last_peer["memory"]])
    return [
        seconds.row(f"time of a step, {what}", label, target),
        memory.row(f"memory of a step, {what}", label, target if ours == "sdgd" else "–", unit="MiB"),
    ]
