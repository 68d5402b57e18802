"""The cost of a million looks at a stream: `AnytimeAccuracy.update`, and the interval when it is read.

The peer of `update` is the least that a loop can do: adding two integers to two attributes of an object.
"""

from __future__ import annotations

from typing import Any

from aleator.stats import AnytimeAccuracy
from benchmarks.pairs import interleave

MILLION = 10**6


class Counts:
    """Two sums and nothing else."""

    def __init__(self) -> None:
        self.correct = 0
        self.n = 0

    def update(self, correct: int, n: int) -> None:
        """Add."""
        self.correct += correct
        self.n += n


def benchmark() -> list[dict[str, Any]]:
    """Return the time of 10⁶ updates beside bare sums, and of reading the interval beside one update."""
    ours, sums = AnytimeAccuracy(0.05), Counts()

    def million(update: Any) -> None:
        for _ in range(MILLION):
            update(19, 20)

    updates = interleave(lambda: million(ours.update), lambda: million(sums.update), pairs=7)
    reads = interleave(lambda: ours.interval, lambda: ours.update(19, 20), pairs=7, number=100)
    return [
        updates.row("10⁶ updates of the confidence sequence", "bare sums", "ours < 1 s"),
        reads.row("solving the interval once", "one update", "–"),
    ]
