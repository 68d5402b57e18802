"""Timings that can be compared: taken in turn, A B A B …, on the same work, in one process.

The figure is the ratio peer / ours of each pair of neighbouring timings, and its median over the pairs: a machine whose
speed drifts slows both halves of a pair. More than 1 means that ours is faster. A third function may take its turn, the
limit: what the work would cost at least, for instance a step that does less. Of it the figure is ours / limit.

From five pairs on the median has a bootstrap interval (percentiles, 95 %), and only the interval decides: a target is
*met* when all of it lies on the right side, *missed* when none of it does, and *open* otherwise. Fewer pairs decide
nothing. Every pair is timed by two clocks, of the wall and of the processor (user and system time of this process);
`clock` says which of them is the figure, and the other stands beside it. Where other processes share the machine the
processor's is the one to believe.
"""

from __future__ import annotations

import gc
import re
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass
from timeit import default_timer
from typing import Any, Literal

import numpy as np
import torch
from scipy import stats

LEAST_PAIRS = 5
"""Pairs from which a median has an interval."""

_CLOCKS = {"wall": default_timer, "processor": time.process_time}

Figure = Literal["speed", "cost", "overhead"]
"""Of a pair: peer / ours, ours / peer, or ours / peer − 1."""

_SHORT = 0.3  # seconds of a pair up to which there are many


@dataclass(frozen=True)
class Pairs:
    """Seconds (or another unit) of ours and of the peer, pair by pair.

    Attributes:
        ours: by the clock that counts.
        peer: the same.
        limit: of what does the least that could be done, if there is such a thing.
        clock: its name, if it has been one.
        beside: the same pairs by the other clock.
    """

    ours: list[float]
    peer: list[float]
    _: KW_ONLY
    limit: list[float] | None = None
    clock: str | None = None
    beside: Pairs | None = None

    def row(
        self,
        what: str,
        peer: str,
        target: str,
        *,
        figure: Figure = "speed",
        unit: str = "s",
        limit: tuple[str, float] | None = None,
    ) -> dict[str, Any]:
        """Return the row of a benchmark table.

        Args:
            what: the work.
            peer: who else does it.
            target: for readers; it has a verdict if it begins with "≥" or "≤" and a number, which the figure is to be
                at least or at most.
            figure: the quotient of a pair, in the row as ``ratio``; an overhead is of what does the peer's work and
                more.
            unit: of the timings.
            limit: what takes the least, and what ours / limit is to be at most.
        """
        found = self._figure(peer, figure, unit)
        row = {"what": what, **found, "target": target}
        wanted = re.match(r"(?:overhead )?([≥≤]) ([\d.]+)( %)?", target)
        if wanted:
            bound = float(wanted[2]) / (100 if wanted[3] else 1)
            row["verdict"] = verdict(found.get("interval"), bound, at_most=wanted[1] == "≤")
        if self.limit is not None and limit is not None:
            name, most = limit
            ratios = [a / b for a, b in zip(self.ours, self.limit, strict=True)]
            row["limit"] = {
                "what": f"{name}: {statistics.median(self.limit):.4g} {unit}",
                **_spread(ratios),
                "target": f"≤ {most:g}",
            }
            row["limit"]["verdict"] = verdict(row["limit"].get("interval"), most, at_most=True)
        if self.clock is not None:
            row["clock"] = self.clock
        if self.beside is not None:
            row["beside"] = {"clock": self.beside.clock, **self.beside._figure(peer, figure, unit)}
        return row

    def _figure(self, peer: str, figure: Figure, unit: str) -> dict[str, Any]:
        both = list(zip(self.ours, self.peer, strict=True))
        quotients = [b / a if figure == "speed" else a / b - (figure == "overhead") for a, b in both]
        return {
            "ours": f"{statistics.median(self.ours):.4g} {unit}",
            "peer": f"{peer}: {statistics.median(self.peer):.4g} {unit}",
            **_spread(quotients),
            "pairs": len(both),
        }


def verdict(interval: dict[str, float] | None, bound: float, *, at_most: bool) -> str:
    """Return ``"met"``, ``"missed"`` or ``"open"``: where an interval lies to a bound."""
    if interval is None:
        return "open"
    low, high = interval["low"], interval["high"]
    if at_most:
        low, high, bound = -high, -low, -bound
    return "met" if low >= bound else "missed" if high < bound else "open"


def median_interval(values: Sequence[float]) -> dict[str, float] | None:
    """Return the bootstrap interval of a median at 95 %, or None of fewer than five values."""
    if len(values) < LEAST_PAIRS:
        return None
    found = stats.bootstrap(
        (np.asarray(values),), np.median, method="percentile", n_resamples=9999, rng=np.random.default_rng(0)
    ).confidence_interval
    return {"low": float(found.low), "high": float(found.high)}


def _spread(ratios: Sequence[float]) -> dict[str, Any]:
    interval = median_interval(ratios)
    ends = {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
    return {"ratio": ends} | ({} if interval is None else {"interval": interval})


def interleave(
    ours: Callable[[], object],
    peer: Callable[[], object],
    *,
    limit: Callable[[], object] | None = None,
    pairs: int | None = None,
    number: int = 1,
    threads: int = 1,
    clock: Callable[[], float] = default_timer,
) -> Pairs:
    """Time both functions in turn, and the limit if there is one, after one run of each that is not counted.

    Args:
        ours: the work, our way.
        peer: the same work, the peer's way.
        limit: what takes the least that could be taken.
        pairs: how often; None is 31 where a pair takes less than a third of a second, else 7.
        number: calls in one timing.
        threads: of torch, for all.
        clock: what counts as time; `time.process_time`, the CPU time of this process, where others share the machine.
    """
    functions = [ours, peer, *([] if limit is None else [limit])]
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    collects = gc.isenabled()
    gc.disable()
    try:
        for function in functions:
            _timed(function, number)
        if pairs is None:
            pairs = 31 if sum(_timed(function, number)["wall"] for function in functions) * number < _SHORT else 7
        found = [[_timed(function, number) for function in functions] for _ in range(pairs)]
    finally:
        if collects:
            gc.enable()
        torch.set_num_threads(before)
    counts = "processor" if clock is time.process_time else "wall"
    by_clock = {
        name: Pairs([ours[name] for ours, *_ in found], [peer[name] for _, peer, *_ in found], clock=name)
        for name in _CLOCKS
    }
    chosen = by_clock.pop(counts)
    (other,) = by_clock.values()
    limits = None if limit is None else [turn[2][counts] for turn in found]
    return Pairs(chosen.ours, chosen.peer, limit=limits, clock=counts, beside=other)


def _timed(function: Callable[[], object], number: int) -> dict[str, float]:
    begin = {name: clock() for name, clock in _CLOCKS.items()}
    for _ in range(number):
        function()
    return {name: (clock() - begin[name]) / number for name, clock in _CLOCKS.items()}
