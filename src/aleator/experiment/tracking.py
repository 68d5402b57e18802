"""Where metrics go: ``metrics.jsonl`` always, TensorBoard, Weights & Biases and MLflow on request.

A resumed run first drops what was logged after its checkpoint, so that its log is that of a run that was never
interrupted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aleator.experiment.files import finite, write_text
from aleator.experiment.options import Tracker

if TYPE_CHECKING:
    from accelerate import Accelerator


class MetricLog:
    """Appends rows of metrics to a run's folder and hands them to its trackers.

    Args:
        folder: of the run.
        accelerator: whose trackers carry Weights & Biases and MLflow.
        trackers: those asked for.
        config: what the trackers show as the run's options.
        keep_steps: rows of later steps are dropped first; None starts an empty log.
    """

    def __init__(
        self,
        folder: Path,
        accelerator: Accelerator,
        trackers: Sequence[Tracker],
        config: Mapping[str, Any],
        keep_steps: int | None = None,
    ) -> None:
        self._path = folder / "metrics.jsonl"
        kept = []
        if keep_steps is not None:
            # Test rows come after the last checkpoint, whatever step they bear.
            rows = read_metrics(self._path)
            kept = [row for row in rows if row["step"] <= keep_steps and row["split"] != "test"]
        write_text(self._path, "".join(_line(row) for row in kept))
        self._file = self._path.open("a", encoding="utf-8")
        self._board: Any = None
        if "tensorboard" in trackers:
            from torch.utils.tensorboard import SummaryWriter

            purge = None if keep_steps is None else keep_steps + 1
            self._board = SummaryWriter(folder / "tensorboard", purge_step=purge)
        self._accelerator = accelerator
        self._hosted = [tracker for tracker in trackers if tracker != "tensorboard"]
        if self._hosted:
            accelerator.log_with = list(self._hosted)
            accelerator.init_trackers("aleator", config=dict(config), init_kwargs={})

    def write(self, row: dict[str, Any]) -> None:
        """Append one row: step, progress, examples, seconds, split, metrics. It is on disk when this returns."""
        self._file.write(_line(row))
        self._file.flush()
        named = {f"{row['split']}/{name}": value for name, value in row["metrics"].items()}
        if self._board is not None:
            for name, value in named.items():
                self._board.add_scalar(name, value, row["step"])
        if self._hosted:
            self._accelerator.log(named, step=row["step"])

    def close(self) -> None:
        """Flush and close everything."""
        self._file.close()
        if self._board is not None:
            self._board.close()
        # Not end_training, which ends the process group as well.
        for tracker in self._accelerator.trackers if self._hosted else []:
            tracker.finish()


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a ``metrics.jsonl``; an absent file has none, a last line cut short by a crash is left out.

    Raises:
        ValueError: if any other line is damaged; the message names the file and the line.
    """
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if isinstance(row, dict) and {"step", "seconds", "split", "metrics"} <= row.keys():
            rows.append(row)
        elif number < len(lines):
            raise ValueError(f"{path}, line {number}, is not a line of metrics: {line[:60]!r}")
    return rows


def _line(row: dict[str, Any]) -> str:
    return json.dumps(finite(row)) + "\n"


def require(trackers: Sequence[Tracker]) -> None:
    """Check that trackers are installed.

    Raises:
        ImportError: naming the package that is missing.
    """
    for tracker in trackers:
        if find_spec(tracker) is None:
            raise ImportError(f"tracker {tracker!r} is not installed: pip install 'aleator[{tracker}]'")
