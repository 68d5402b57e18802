"""Predictions of pairs from a file: a table with one label's p, V, y1 and y2, or arrays with whole joints.

A table, see `aleator.data.own.table_reader`, has a header with the columns ``p``, ``V``, ``y1``, ``y2`` and, if there
are names, ``item``; y1 and y2 are 0 or 1, whether each response is the label that p is of. An ``.npz`` file has
``joint`` (probabilities) or ``log_joint`` of shape [items, K, K], the labels ``y1`` and ``y2``, and, if there are
names, ``item``. A fault is reported with the number of its line.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aleator.data.own.table_reader import Row, Table, read_table, read_text

if TYPE_CHECKING:
    from torch import Tensor

    from aleator.nn import PairDistribution

COLUMNS = ("p", "v", "y1", "y2")


@dataclass(frozen=True)
class PairTable:
    """Predictions and responses.

    Attributes:
        p: the probability of one scored label of each item; with joints, of the likeliest.
        V: the variance claimed for it.
        y1: 0 or 1, whether the first response is that label.
        y2: the same of the second.
        items: their names, or None.
        pairs: the joints and the labels, where the file has them.
    """

    p: Tensor
    V: Tensor
    y1: Tensor
    y2: Tensor
    items: list[str] | None
    pairs: tuple[PairDistribution, Tensor, Tensor] | None


def read_pairs(path: Path) -> PairTable:
    """Read a file of predictions.

    Raises:
        ValueError: if the file is not there or holds something else.
    """
    if path.suffix.lower() == ".npz":
        return _from_arrays(path)
    table = read_table(path, "a CSV file or an .npz file")
    rows = table.rows
    if not rows:
        raise ValueError(f"{path} is empty: it must have a header with p, V, y1 and y2, and a line for each item")
    names = [cell.lower() for cell in rows[0].cells]
    if missing := [name for name in COLUMNS if name not in names]:
        shown = ", ".join(name.upper() if name == "v" else name for name in missing)
        raise ValueError(f"{table.where(rows[0])}: the columns must be p, V, y1 and y2, got no {shown}")
    if len(rows) < 3:
        raise ValueError(f"{path} must have at least 2 items, got {len(rows) - 1}")
    values: dict[str, list[float]] = {name: [] for name in COLUMNS}
    items: list[str] = []
    for row in rows[1:]:
        for name in COLUMNS:
            values[name].append(_number(table, row, name, names.index(name)))
        if "item" in names:
            items.append(row.cell(names.index("item")))
    import torch

    p, V, y1, y2 = (torch.tensor(values[name], dtype=torch.float64) for name in COLUMNS)
    return PairTable(p, V, y1, y2, items or None, None)


def read_names(path: Path) -> list[str]:
    """Return the names in a file, one a line.

    Raises:
        ValueError: if the file is not there or is no text.
    """
    return [
        line.strip() for line in read_text(path, "a text file with a name in each line").splitlines() if line.strip()
    ]


def _number(table: Table, row: Row, name: str, column: int) -> float:
    text, where = row.cell(column), table.where(row)
    shown = name.upper() if name == "v" else name
    if not text:
        raise ValueError(f"{where}: {shown} is missing")
    value = table.number(text)
    if value is not None and "%" in text:
        value /= 100
    low, high = (-1.0, 1.0) if name == "v" else (0.0, 1.0)
    if name in ("y1", "y2") and value not in (0, 1):
        raise ValueError(f"{where}: {name} must be 0 or 1, whether the response is the scored label, got {text!r}")
    if value is None or not low <= value <= high:
        raise ValueError(f"{where}: {shown} must be in [{low:g}, {high:g}], got {text!r}")
    return value


def _from_arrays(path: Path) -> PairTable:
    import numpy as np
    import torch

    from aleator.nn import PairDistribution

    if not path.is_file():
        raise ValueError(f"FILE must be a CSV file or an .npz file, got {path}, which is not there")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
    except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise ValueError(f"{path} is not an npz file of plain arrays: {error}") from None
    tables = [name for name in ("joint", "log_joint") if name in arrays]
    if len(tables) != 1 or not {"y1", "y2"} <= set(arrays):
        raise ValueError(
            f"{path} must have the arrays joint or log_joint, y1 and y2, got {', '.join(sorted(arrays)) or 'none'}"
        )
    table = arrays[tables[0]]
    if table.dtype.kind != "f" or table.ndim != 3:
        raise ValueError(
            f"{path}: {tables[0]} must be floating-point numbers of shape [items, K, K], got {table.dtype} of shape "
            f"{list(table.shape)}"
        )
    for name in ("y1", "y2"):
        if arrays[name].dtype.kind not in "iu":
            raise ValueError(f"{path}: {name} must be whole numbers, got {arrays[name].dtype}")
    y1, y2 = labels = tuple(torch.from_numpy(arrays[name].astype(np.int64)) for name in ("y1", "y2"))
    log_joint = torch.from_numpy(table.astype(np.float64))
    if tables[0] == "joint":
        if bool((log_joint < 0).any()):
            raise ValueError(f"{path}: joint must not be negative, got {float(log_joint.min()):g}")
        log_joint = log_joint.log()
    try:
        pairs = PairDistribution.from_log_joint(log_joint)
        pairs.log_prob(y1, y2)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    marginal = pairs.log_marginal().exp()
    top = marginal.argmax(1, keepdim=True)
    p, V = (values.gather(1, top).squeeze(1) for values in (marginal, pairs.variance(clip=False)))
    hit1, hit2 = ((y == top.squeeze(1)).double() for y in labels)
    items = [str(name) for name in arrays["item"].tolist()] if "item" in arrays else None
    return PairTable(p, V, hit1, hit2, items, (pairs, y1, y2))
