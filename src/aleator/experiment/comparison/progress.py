"""The display of a comparison's progress.

On a terminal: one bar for the whole comparison with the time left, and a line for each running run with its headline
metric, read from the end of its ``metrics.jsonl``. Elsewhere: one plain line for every run that ended, fit for a log.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from aleator.experiment.files import read_json

_log = logging.getLogger("aleator.experiment")

_TAIL = 8192  # bytes at the end of metrics.jsonl that hold the newest rows


@dataclass
class _Running:
    label: str
    folder: Path
    began: float
    fraction: float | None = None
    headline: str = ""


@dataclass
class _Course:
    """What is known about the time a comparison takes."""

    finished: list[float] = field(default_factory=list)

    def left(self, running: Sequence[tuple[float, float | None]], waiting: int, slots: int) -> float | None:
        """Return the seconds left, or None while nothing is known.

        Args:
            running: seconds so far and fraction done (None where unknown) of every running run.
            waiting: number of runs not begun.
            slots: runs at the same time.
        """
        whole = list(self.finished)
        if not whole:  # until the first run ends, the running ones say how long one takes
            whole = [seconds / fraction for seconds, fraction in running if fraction]
        if not whole:
            return None
        each = sum(whole) / len(whole)
        rests = [
            seconds / fraction - seconds if fraction else max(each - seconds, 0.0) for seconds, fraction in running
        ]
        return max([(sum(rests) + waiting * each) / max(slots, 1), *rests])


class ComparisonProgress:
    """Shows how far a comparison is: live on a terminal, else in lines.

    Args:
        total: number of runs.
        done: number of runs that were finished before.
        slots: runs at the same time.
        console: where to draw; default: standard error.
    """

    def __init__(self, total: int, done: int, slots: int, console: Console | None = None) -> None:
        self._total, self._done, self._slots = total, done, slots
        self._course = _Course()
        self._running: dict[str, _Running] = {}
        console = console or Console(stderr=True)
        self._live = Live(console=console, refresh_per_second=4, transient=True) if console.is_terminal else None
        self._console = console

    def __enter__(self) -> ComparisonProgress:
        """Begin to show."""
        if self._done:
            self._say(f"{self._done} of {self._total} runs were finished before")
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        if self._live is not None:
            self._live.stop()

    def started(self, key: str, label: str, folder: Path) -> None:
        """Show that a run began."""
        self._running[key] = _Running(label, folder, time.monotonic())

    def ended(self, key: str, text: str | None, done: bool) -> None:
        """Show how a run ended; without a text, only that it is no longer running."""
        run = self._running.pop(key)
        seconds = time.monotonic() - run.began
        self._done += done
        if done:
            self._course.finished.append(seconds)
        if text is not None:
            self._say(f"{self._done}/{self._total} {run.label}: {text} ({clock(seconds)})")

    def refresh(self) -> None:
        """Look how far the running runs are. Costs a few small reads; does nothing without a terminal."""
        if self._live is None:
            return
        for run in self._running.values():
            run.fraction, run.headline = look_at(run.folder)
        self._live.update(self._picture())

    def _say(self, line: str) -> None:
        if self._live is not None:
            self._console.print(Text(line))
        else:
            _log.info(line)

    def _picture(self) -> Group:
        now = time.monotonic()
        times = [(now - run.began, run.fraction) for run in self._running.values()]
        left = self._course.left(times, self._total - self._done - len(times), self._slots)
        parts = sum(fraction or 0.0 for _, fraction in times)
        whole = Table.grid(padding=(0, 1))
        whole.add_row(
            Text(f"{self._done}/{self._total} runs"),
            ProgressBar(total=self._total, completed=self._done + parts, width=40),
            Text(f"{clock(left)} left" if left is not None else ""),
        )
        lines = Table.grid(padding=(0, 1))
        for run in self._running.values():
            percent = f"{run.fraction:4.0%}" if run.fraction is not None else ""
            lines.add_row(Text(f"  {run.label}"), Text(percent), Text(run.headline))
        return Group(whole, lines)


def look_at(folder: Path) -> tuple[float | None, str]:
    """Return how far a running run is (0 to 1, None if unknown) and its newest headline metric as text."""
    try:
        config = read_json(folder / "config.json")
        with (folder / "metrics.jsonl").open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - _TAIL))
            tail = file.read().decode(errors="replace")
    except (OSError, ValueError):
        return None, ""
    rows = [row for line in tail.splitlines() if (row := _row(line)) is not None]
    total = (config.get("budget") or {}).get("total")
    fraction = min(rows[-1]["progress"] / total, 1.0) if rows and total else None
    name = (config.get("headline") or {}).get("name")
    for row in reversed(rows):
        value = row["metrics"].get(name) if row["split"] == "validation" else None
        if value is not None:
            return fraction, f"{name} {value:.4g}"
    return fraction, ""


def _row(line: str) -> dict[str, Any] | None:
    try:  # the first line of the tail may begin in the middle, the last may be half written
        row = json.loads(line)
    except json.JSONDecodeError:
        return None
    return row if isinstance(row, dict) and "split" in row else None


def clock(seconds: float) -> str:
    """Return a duration as a person says it."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s" if rest >= 10 else f"{seconds:.1f} s"
