"""The display of a run's progress.

On a terminal: a bar with the headline metric and the time left. Elsewhere: one plain line at every evaluation, fit for
a log.
"""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

_log = logging.getLogger("aleator.experiment")


@runtime_checkable
class ProgressDisplay(Protocol):
    """Shows how far a run is."""

    def __enter__(self) -> ProgressDisplay:
        """Begin to show."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        ...

    def advance(self, progress: int) -> None:
        """Show that the run is at ``progress``, in the budget's unit. Called after every step: cheap."""
        ...

    def evaluated(self, progress: int, text: str) -> None:
        """Show the metrics of an evaluation."""
        ...


class TerminalProgress:
    """A live bar.

    Args:
        total: of the budget; None when the run has no end.
        unit: of the budget.
        start: progress of a resumed run.
    """

    def __init__(self, total: int | None, unit: str, start: int = 0, console: Console | None = None) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[headline]}", markup=False),
            console=console,
            refresh_per_second=5,
        )
        self._task = self._bar.add_task("training", total=total, completed=start, headline="")

    def __enter__(self) -> TerminalProgress:
        """Begin to show."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop showing."""
        self._bar.stop()

    def advance(self, progress: int) -> None:
        """Move the bar."""
        self._bar.update(self._task, completed=progress)

    def evaluated(self, progress: int, text: str) -> None:
        """Put the metrics behind the bar."""
        self._bar.update(self._task, completed=progress, headline=text)


class PlainProgress:
    """One line in the log at every evaluation. Takes the arguments of `TerminalProgress`."""

    def __init__(self, total: int | None, unit: str, start: int = 0) -> None:
        self._of = f"/{total}" if total is not None else ""
        self._unit = unit

    def __enter__(self) -> PlainProgress:
        """Nothing to begin."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to stop."""

    def advance(self, progress: int) -> None:
        """Say nothing: a log has no use for every step."""

    def evaluated(self, progress: int, text: str) -> None:
        """Write a line."""
        _log.info("%d%s %s: %s", progress, self._of, self._unit, text)


def progress_display(total: int | None, unit: str, start: int = 0) -> ProgressDisplay:
    """Return a bar when there is a terminal to draw it on, and plain lines otherwise."""
    console = Console(stderr=True)
    if console.is_terminal:
        return TerminalProgress(total, unit, start, console)
    return PlainProgress(total, unit, start)
