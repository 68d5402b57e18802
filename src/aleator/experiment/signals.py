"""Requests to stop: SIGINT (Ctrl-C) and SIGTERM are counted, so that work can be left at a place of its choice."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any


class Interrupted(Exception):
    """The work was asked to stop and did; its state is saved."""


class StopRequests:
    """Counts requests to stop while its ``with`` block lasts. Outside the main thread it hears nothing.

    Only Ctrl-C counts more than once: a scheduler may send SIGTERM to a process and to its parent, which passes it on.
    A SIGINT that the process was started to ignore, as a shell's script does for what it starts in the background,
    stays ignored: it is meant for the foreground.

    Args:
        first: called at the first request.
        again: called at every further Ctrl-C.
    """

    def __init__(self, first: Callable[[], None], again: Callable[[], None]) -> None:
        self._count = 0
        self._first, self._again = first, again
        self._before: dict[int, Any] = {}

    def received(self) -> bool:
        """Whether there was a request."""
        return self._count > 0

    def __enter__(self) -> StopRequests:
        """Begin to listen."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                if number == signal.SIGINT and signal.getsignal(number) == signal.SIG_IGN:
                    continue
                self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        """Put the handlers that were there before back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self._count == 0:
            self._count = 1
            self._first()
        elif number == signal.SIGINT:
            self._count += 1
            self._again()
