"""Two timings that can be compared: taken in turn, A B A B …, on the same work, in one process.

The figure is the ratio peer / ours of each pair of neighbouring timings, and its median, lowest and highest value over
the pairs: a machine whose speed drifts slows both halves of a pair. More than 1 means that ours is faster.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from timeit import default_timer
from typing import Any

from torch.utils.benchmark import Timer


@dataclass(frozen=True)
class Pairs:
    """Seconds (or another unit) of ours and of the peer, pair by pair."""

    ours: list[float]
    peer: list[float]

    def row(self, what: str, peer: str, target: str, *, overhead: bool = False, unit: str = "s") -> dict[str, Any]:
        """Return the row of a benchmark table: ``ratio`` is peer / ours, or ours / peer − 1 for an overhead."""
        both = list(zip(self.ours, self.peer, strict=True))
        ratios = [a / b - 1 if overhead else b / a for a, b in both]
        return {
            "what": what,
            "ours": f"{statistics.median(self.ours):.4g} {unit}",
            "peer": f"{peer}: {statistics.median(self.peer):.4g} {unit}",
            "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
            "pairs": len(ratios),
            "target": target,
        }


def interleave(
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    pairs: int = 7,
    number: int = 1,
    threads: int = 1,
    clock: Callable[[], float] = default_timer,
) -> Pairs:
    """Time both functions in turn, after one run of each that is not counted.

    Args:
        ours: the work, our way.
        peer: the same work, the peer's way.
        pairs: how often.
        number: calls in one timing.
        threads: of torch, for both.
        clock: what counts as time; `time.process_time`, the CPU time of this process, where others share the machine.
    """
    timers = [Timer("f()", globals={"f": f}, num_threads=threads, timer=clock) for f in (ours, peer)]
    for timer in timers:
        timer.timeit(number)
    seconds: tuple[list[float], list[float]] = ([], [])
    for _ in range(pairs):
        for timer, kept in zip(timers, seconds, strict=True):
            kept.append(timer.timeit(number).mean)
    return Pairs(*seconds)
