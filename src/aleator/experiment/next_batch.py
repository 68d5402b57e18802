"""A check that a resumed run goes on with the batch that came next, which costs one hash for each checkpoint.

A task whose state lacks its sampler is restored without an error and then sees other batches than it would have seen.
So the batch after a checkpoint is fingerprinted, in the run that made the checkpoint and in the one that resumes from
it, and where the two differ there is one line that says so. A run that is interrupted draws that batch before it
leaves. It is a warning and no refusal: a batch may be computed by a model, and differ in the last bits on another
machine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from aleator.experiment.files import read_json, write_json

_log = logging.getLogger("aleator.experiment")

_Batch = TypeVar("_Batch")

_BYTES = 2**16  # of a tensor that are looked at: batches that differ do so early


class NextBatch:
    """Remembers what came after the newest checkpoint, on the main process.

    Args:
        folder: of the checkpoints.
        processes: how many share a batch; with another number a process's part is another one.
        watching: whether this process is the one that keeps the books.
    """

    def __init__(self, folder: Path, processes: int, watching: bool) -> None:
        self._folder, self._processes, self._watching = folder, processes, watching
        self._saved_at: int | None = None
        self._expected: str | None = None

    def after_saving(self, step: int) -> None:
        """Take note that a checkpoint of this step was saved: the next batch is the one to remember."""
        self._saved_at = step

    def after_restoring(self, step: int) -> None:
        """Take note that a checkpoint of this step was restored: the next batch is the one to check."""
        # A file that is not there, or that cannot be read, is no reason not to resume.
        with contextlib.suppress(OSError, ValueError, KeyError):
            known = read_json(self._path(step))
            if self._watching and known["processes"] == self._processes:
                self._expected = known["sha256"]

    def seen(self, batch: _Batch) -> _Batch:
        """Remember or check the batch if a checkpoint came before it, and return it."""
        expected, saved_at = self._expected, self._saved_at
        self._expected = self._saved_at = None
        if not self._watching or (expected is None and saved_at is None):
            return batch
        try:
            found = fingerprint(batch)
        except Exception as error:  # a tensor of a kind that has no bytes to read: no reason to end a run
            _log.debug("the batch has no fingerprint: %s", error)
            found = None
            expected = None
        if expected is not None and found != expected:
            _log.warning(
                "the first batch after the resume is not the one that came next when the state was saved: "
                "the task's state_dict lacks what decides its batches, such as its sampler"
            )
        if saved_at is not None and found is not None and (path := self._path(saved_at)).parent.is_dir():
            write_json(path, {"processes": self._processes, "sha256": found})
        return batch

    def _path(self, step: int) -> Path:
        """In the folder of the checkpoint, with which it goes."""
        return self._folder / f"step-{step:08d}" / "next-batch.json"


def fingerprint(batch: Any) -> str | None:
    """Return a SHA-256 of the numbers and texts in a batch, of the first 64 KiB of each tensor; None without any."""
    digest, found = hashlib.sha256(), False
    for part in _parts(batch):
        digest.update(len(part).to_bytes(8, "little") + part)
        found = True
    return digest.hexdigest() if found else None


def _parts(value: Any) -> Iterator[bytes]:
    """Yield the content of what may stand in a batch; objects of unknown kinds are passed over."""
    if isinstance(value, Tensor):
        dense = value.detach().to_dense() if value.layout is not torch.strided else value.detach()
        start = dense.reshape(-1)[: max(_BYTES // max(dense.element_size(), 1), 1)].cpu().contiguous()
        yield str((value.dtype, tuple(value.shape))).encode()
        yield start.view(torch.uint8).numpy().tobytes()
    elif isinstance(value, np.ndarray):
        if value.dtype != object:
            yield str((value.dtype, value.shape)).encode()
            yield value.reshape(-1)[: max(_BYTES // max(value.itemsize, 1), 1)].tobytes()
    elif isinstance(value, bytes | str | int | float | complex | bool | np.generic):
        yield repr(value).encode()
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield repr(name).encode()
            yield from _parts(item)
    elif isinstance(value, Sequence):
        for item in value:
            yield from _parts(item)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
