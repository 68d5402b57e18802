"""The headline of a run on each test example, in ``test_examples.npz``: what an interval about new data needs.

The file holds ``values`` and ``counts``, one number of each for every test example in the order of the test set, as
little-endian float64. The headline is Σ values / Σ counts; where every example counts once, as in an accuracy, all
counts are 1. It is written before ``result.json``, which says how many examples it has. With several processes each
has the examples rank, rank + processes, …, which are put back in order.
"""

from __future__ import annotations

import io
import logging
import math
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate.utils import gather_object
from torch import Tensor

from aleator.experiment.files import write_bytes
from aleator.stats import ExampleResults

_log = logging.getLogger("aleator.experiment")

FILE = "test_examples.npz"
_HEADER = 1024
"""Bytes of an array's header at most, as numpy writes it."""


def gather_test_examples(task: Any, headline: float, processes: int) -> ExampleResults | None:
    """Return what a task says of its test examples, on every process; None where it says nothing that fits.

    Args:
        task: that has just been evaluated on test data; see ``test_examples`` in `aleator.experiment.Task`.
        headline: what the evaluation found. Examples that do not add up to it are not kept.
        processes: of the run.
    """
    say = getattr(task, "test_examples", None)
    own = None if say is None else say()
    plain = None if own is None else (_plain(own[0]), _plain(own[1]))
    gathered = gather_object([plain]) if processes > 1 else [plain]
    shares = [share for share in gathered if share is not None]
    if len(shares) < len(gathered):
        return None
    values, counts = (_in_order([share[part] for share in shares]) for part in (0, 1))
    if not len(values) or not (np.isfinite(values).all() and np.isfinite(counts).all() and counts.sum() > 0):
        return None
    # Values are summed in another order here, and those of half precision before they were added up.
    if not math.isclose(math.fsum(values) / math.fsum(counts), headline, rel_tol=1e-5, abs_tol=1e-9):
        _log.warning("the results by test example are not kept: they do not add up to the headline")
        return None
    return ExampleResults(values, counts)


def write_test_examples(folder: Path, found: ExampleResults) -> None:
    """Write the results by test example into a run's folder."""
    counts = np.ones_like(found.values) if found.counts is None else found.counts
    buffer = io.BytesIO()
    np.savez_compressed(buffer, values=found.values.astype("<f8"), counts=counts.astype("<f8"))
    write_bytes(folder / FILE, buffer.getvalue())


def read_test_examples(folder: Path, result: dict[str, Any]) -> ExampleResults | None:
    """Return the results by test example of a finished run, None where none were kept or the file is damaged.

    A file from elsewhere is read without unpickling anything, and not before its sizes are those of ``result``.

    Args:
        folder: of the run.
        result: the content of its ``result.json``.
    """
    expected, path = result.get("test_examples"), folder / FILE
    if type(expected) is not int or expected < 1 or not path.is_file():
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
            if sizes.keys() != {"values.npy", "counts.npy"} or max(sizes.values()) > 8 * expected + _HEADER:
                raise ValueError(f"it does not hold the results of {expected} examples")
        with np.load(path, allow_pickle=False) as arrays:
            values, counts = arrays["values"], arrays["counts"]
        for array in (values, counts):
            if array.dtype != np.dtype("<f8") or array.shape != (expected,) or not np.isfinite(array).all():
                raise ValueError(f"it does not hold {expected} numbers each")
        if counts.min() < 0 or counts.sum() <= 0:
            raise ValueError("its counts are not counts")
    except (ValueError, OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        _log.warning("%s is damaged: %s", path, error)
        return None
    return ExampleResults(values, None if (counts == 1).all() else counts)


def _plain(part: Tensor) -> np.ndarray[Any, np.dtype[np.float64]]:
    return part.detach().to("cpu", torch.float64).numpy()


def _in_order(parts: list[np.ndarray[Any, np.dtype[np.float64]]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the whole of every process's share, each ``len(parts)``-th example."""
    whole = np.empty(sum(map(len, parts)))
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
