"""The time and memory of an epoch of index batches: `RepeatedRandomSampler.batches` against torch's samplers.

Both sides run through every batch of 128 of a shuffled epoch, short batch dropped, with one thread; the ratio is
peer / ours. Up to 10^7 they take turns in one process, and the ratio is the median and range over the pairs. Above,
where the peer needs minutes and gigabytes, each side runs once in a fresh process, which gives its peak memory as well.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import resource
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Timer
from torch.utils.data import BatchSampler, RandomSampler

from aleator.data.repeated_random import RepeatedRandomSampler

BATCH_SIZE = 128

Side = Callable[[int], Iterable[Any]]


def ours(n: int) -> Iterable[Any]:
    """Return an epoch's batches by `RepeatedRandomSampler`."""
    return RepeatedRandomSampler(n, ratio=1).batches(BATCH_SIZE)


def peer(n: int) -> Iterable[Any]:
    """Return an epoch's batches by torch's ``BatchSampler`` over ``RandomSampler``."""
    return BatchSampler(RandomSampler(range(n), generator=torch.Generator().manual_seed(0)), BATCH_SIZE, drop_last=True)


def seconds(batches: Iterable[Any]) -> float:
    """Return the time of one pass."""
    return float(Timer("for _ in batches: pass", globals={"batches": batches}, num_threads=1).timeit(1).median)


def peak_memory() -> int:
    """Return this process's peak resident memory in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # ru_maxrss starts at the parent's peak on Linux
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def measure_alone(side: Side, n: int) -> tuple[float, int]:
    """Return the seconds of one pass in a fresh process and by how many bytes its peak memory grew."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (side, n))


def _measure(side: Side, n: int) -> tuple[float, int]:
    seconds(side(BATCH_SIZE))  # what is imported and allocated once does not count
    before = peak_memory()
    return seconds(side(n)), peak_memory() - before


def benchmark(sizes: Sequence[int] = (10**6, 10**8), pairs: int = 9) -> list[dict[str, Any]]:
    """Compare epochs of index batches.

    Args:
        sizes: numbers of examples.
        pairs: how often both sides are timed at sizes up to 10^7.
    """
    results = []
    for n in sizes:
        if n <= 10**7:
            epoch, peer_epoch = ours(n), peer(n)
            times = [(seconds(epoch), seconds(peer_epoch)) for _ in range(pairs)]
        else:
            (own, own_bytes), (theirs, their_bytes) = measure_alone(ours, n), measure_alone(peer, n)
            times = [(own, theirs)]
            what = f"growth of peak memory in an epoch of index batches, N = {n}"
            results.append(_result(f"sampler_memory_{n}", what, [(own_bytes, their_bytes)], None, "bytes"))
        what = f"seconds per epoch of index batches, N = {n}, batch {BATCH_SIZE}, pairs: {len(times)}"
        results.append(_result(f"sampler_{n}", what, times, 10, "s"))
    return results


def _result(
    name: str, what: str, pairs: Sequence[tuple[float, float]], target: float | None, unit: str
) -> dict[str, Any]:
    ratios = [theirs / own for own, theirs in pairs]
    return {
        "name": name,
        "what": what,
        "ours": statistics.median(own for own, _ in pairs),
        "peer": statistics.median(theirs for _, theirs in pairs),
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "target": target,
        "unit": unit,
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10**6, 10**8])
    print(json.dumps(benchmark(parser.parse_args().sizes), indent=2))
