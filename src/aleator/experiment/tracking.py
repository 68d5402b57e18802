"""Trackers of metrics: ``metrics.jsonl`` always, TensorBoard, Weights & Biases and MLflow on request.

A resumed run first drops what was logged after its checkpoint, so that its log is the same as if it had never been
interrupted.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aleator.experiment.files import finite, naming, replacing
from aleator.experiment.options import Tracker

if TYPE_CHECKING:
    from accelerate import Accelerator

_log = logging.getLogger("aleator.experiment")


@dataclass(frozen=True)
class LogPosition:
    """How far ``metrics.jsonl`` was when a checkpoint was saved: the training step, rows, and bytes."""

    step: int
    rows: int
    bytes: int


class MetricLog:
    """Appends rows of metrics to a run's folder and hands them to its trackers.

    Args:
        folder: of the run.
        accelerator: whose trackers carry Weights & Biases and MLflow.
        trackers: those asked for.
        config: what the trackers show as the run's options.
        keep: what comes after this position is dropped first; None starts an empty log. Rows that should be there and
            are not are reported as lost.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        trackers: Sequence[Tracker],
        config: Mapping[str, Any],
        keep: LogPosition | None = None,
    ) -> None:
        self._path = folder / "metrics.jsonl"
        self._rows = _cut_back(self._path, keep)
        with naming(self._path):
            self._file = self._path.open("ab")
        self._board: Any = None
        if "tensorboard" in trackers:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(folder / "tensorboard", purge_step=None if keep is None else keep.step + 1)
        self._accelerator = accelerator
        self._hosted = [tracker for tracker in trackers if tracker != "tensorboard"]
        if self._hosted:
            accelerator.log_with = list(self._hosted)
            accelerator.init_trackers("aleator", config=dict(config), init_kwargs={})

    def write(self, row: dict[str, Any]) -> None:
        """Append one row: step, progress, examples, seconds, split, metrics. Another process sees it at once."""
        with naming(self._path):
            self._file.write(_line(row))
            self._file.flush()
        self._rows += 1
        named = {f"{row['split']}/{name}": value for name, value in row["metrics"].items()}
        if self._board is not None:
            for name, value in named.items():
                self._board.add_scalar(name, value, row["step"])
        if self._hosted:
            self._accelerator.log(named, step=row["step"])

    def sync(self, step: int) -> LogPosition:
        """Return where the log is, once everything up to there is on the disk."""
        with naming(self._path):
            os.fsync(self._file.fileno())
            return LogPosition(step, self._rows, self._file.tell())

    def close(self) -> None:
        """Flush and close everything."""
        with naming(self._path):
            self._file.close()
        if self._board is not None:
            self._board.close()
        # Not end_training, which ends the process group as well.
        for tracker in self._accelerator.trackers if self._hosted else []:
            tracker.finish()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a ``metrics.jsonl``, as `metric_rows` yields them."""
    return list(metric_rows(path))


def metric_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the rows of a ``metrics.jsonl``, one at a time: a long run's log need not fit into memory.

    An absent file has none. Damaged lines are left out and a warning says how many there were; a last one that a crash
    cut short goes without saying.
    """
    damaged = 0
    pending = False  # a bad line counts when another one follows it
    if path.exists():
        with path.open("rb") as file:
            for line in file:
                damaged += pending
                row = _row(line)
                pending = row is None
                if row is not None:
                    yield row
    if damaged:
        _log.warning("%s: %d lines are damaged and left out", path, damaged)


def _cut_back(path: Path, keep: LogPosition | None) -> int:
    """Drop what a log has beyond a position and return the number of rows it has then."""
    if keep is None:
        with replacing(path):
            pass
        return 0
    if path.exists() and path.stat().st_size >= keep.bytes and _rows_in(path, keep.bytes) == keep.rows:
        with naming(path), path.open("rb+") as file:
            file.truncate(keep.bytes)
            os.fsync(file.fileno())
        return keep.rows
    rows = 0
    with replacing(path) as file:
        for row in metric_rows(path):
            # Test rows come after the last checkpoint, whatever step they bear.
            if row["step"] <= keep.step and row["split"] != "test":
                file.write(_line(row))
                rows += 1
    if rows < keep.rows:
        lost = keep.rows - rows
        _log.warning("%s has lost %d of the %d rows that it had at step %d", path, lost, keep.rows, keep.step)
    return rows


def _rows_in(path: Path, size: int) -> int | None:
    """Return the number of rows in the first ``size`` bytes, or None where one is damaged."""
    rows = read = 0
    with path.open("rb") as file:
        while read < size:
            line = file.readline()
            read += len(line)
            if not line.endswith(b"\n") or _row(line) is None:
                return None
            rows += 1
    return rows if read == size else None


def _row(line: bytes) -> dict[str, Any] | None:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(row, dict) or not isinstance(row.get("metrics"), dict):
        return None
    sound = type(row.get("step")) is int and type(row.get("seconds")) in (int, float)
    return row if sound and isinstance(row.get("split"), str) else None


def _line(row: dict[str, Any]) -> bytes:
    return json.dumps(finite(row)).encode() + b"\n"


def require(trackers: Sequence[Tracker]) -> None:
    """Check that trackers are installed.

    Raises:
        ImportError: naming the package that is missing.
    """
    for tracker in trackers:
        if find_spec(tracker) is None:
            raise ImportError(f"tracker {tracker!r} is not installed: pip install 'aleator[{tracker}]'")
