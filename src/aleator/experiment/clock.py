"""The wall time of a run by use: training, evaluation, checkpoints, and the rest."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator


class Clock:
    """Adds up seconds by kind. One kind runs at a time, and every second belongs to one.

    Attributes:
        seconds: of each kind, without the stretch that is still running. May be set, when a run is resumed.
    """

    def __init__(self) -> None:
        self.seconds = {"train": 0.0, "evaluate": 0.0, "checkpoint": 0.0, "other": 0.0}
        self._kind, self._since = "other", time.perf_counter()

    @contextlib.contextmanager
    def during(self, kind: str) -> Iterator[None]:
        """Count the time of the block as ``kind``, and what follows as before."""
        before = self._kind
        self._switch(kind)
        try:
            yield
        finally:
            self._switch(before)

    def read(self) -> dict[str, float]:
        """Return the seconds of training, evaluation and checkpoints, and the total of everything."""
        self._switch(self._kind)
        named = {kind: seconds for kind, seconds in self.seconds.items() if kind != "other"}
        return {**named, "total": sum(self.seconds.values())}

    def _switch(self, kind: str) -> None:
        now = time.perf_counter()
        self.seconds[self._kind] += now - self._since
        self._kind, self._since = kind, now
