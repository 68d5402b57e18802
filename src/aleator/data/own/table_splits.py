"""A table with a column to predict: numbers standardised, categories as indicators, missing values as such.

What is learned about columns, their means and their categories, is learned from training rows alone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.data.own.splitting import class_numbers, drawn, said
from aleator.data.own.table_reader import Row, Table, is_missing, read_table

_log = logging.getLogger("aleator.data")

MOST_CLASSES = 20  # whole numbers with at most as many values are classes
MOST_CATEGORIES = 50  # of a column; the rarer ones are one category

Splits = dict[str, tuple[Tensor, Tensor]]


def table_splits(path: str | Path, target: str, generator: torch.Generator) -> Splits:
    """Return 70 % of a table's rows to learn from, 15 % to choose by and 15 % to report, as tensors.

    A target of words, or of whole numbers with at most 20 values, is classes, int64 from 0 in the order of their
    names; another one is a number, standardised by the training rows. A column of numbers is standardised; where it
    has missing values they are its mean, and a further column says so. A column of words is an indicator for each of
    its 50 most frequent categories and one for all others. Columns that are the same in all training rows, and those of
    words that differ in every row, are left out. One line of the log says what was understood.

    Args:
        path: a table with a heading: CSV or the like, in any encoding and with decimal points or commas.
        target: the column to predict. Rows without a value in it are left out.
        generator: draws the rows of the three parts.

    Raises:
        ValueError: if the file is no table, has no such column, or nothing to predict it from; one line.
    """
    table = read_table(Path(path))
    heading, rows = _heading(table, target)
    at = heading.index(target)
    known = [row for row in table.rows[1:] if not is_missing(row.cell(at))]
    parts = drawn(len(known), generator)
    y, kind = _target(table, known, at, target, parts["train"])
    columns, numbers, words, left = [], 0, 0, []
    for index, name in enumerate(heading):
        if index == at:
            continue
        made, is_number = _column(table, [row.cell(index) for row in known], parts["train"].tolist())
        if not made:
            left.append(name)
        columns += made
        numbers, words = numbers + (is_number and bool(made)), words + (not is_number and bool(made))
    if not columns:
        raise ValueError(f"{path}: no column tells rows apart, so that {target} cannot be predicted")
    x = torch.stack(columns, 1)
    missing = f", {rows - len(known)} rows without it left out" if rows > len(known) else ""
    without = f", left out: {', '.join(left[:5])}{' …' if len(left) > 5 else ''}" if left else ""
    _log.info(
        "%s: %s is %s%s; columns: %d of numbers, %d of words%s; rows: %s",
        path, target, kind, missing, numbers, words, without, said(parts),
    )  # fmt: skip
    return {name: (x[chosen], y[chosen]) for name, chosen in parts.items()}


def _heading(table: Table, target: str) -> tuple[list[str], int]:
    if not table.rows:
        raise ValueError(f"{table.path} is empty")
    names = [cell.strip() for cell in table.rows[0].cells]
    if target not in names:
        raise ValueError(f"{table.path} has no column {target!r} (columns: {', '.join(names[:20])})")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{table.path} has two columns {twice!r}; rename one")
    return names, len(table.rows) - 1


def _target(table: Table, rows: Sequence[Row], at: int, name: str, train: Tensor) -> tuple[Tensor, str]:
    cells = [row.cell(at).strip() for row in rows]
    values = [table.number(cell) for cell in cells]
    found = [value for value in values if value is not None]
    whole = all(value.is_integer() for value in found)
    if len(found) == len(values) and not (whole and len(set(found)) <= MOST_CLASSES):
        y = torch.tensor(found, dtype=torch.float64)
        spread = y[train].std()
        if not spread > 0:
            raise ValueError(f"{table.path}: {name} is the same in all training rows")
        return ((y - y[train].mean()) / spread).float(), f"a number with mean {y[train].mean():.4g}, standardised"
    y, classes = class_numbers(cells)
    if len(classes) < 2 or len(classes) > len(cells) / 2:
        raise ValueError(
            f"{table.path}: {name} must be numbers or classes with several rows each, "
            f"got {len(classes)} different values in {len(cells)} rows"
        )
    return y, f"one of {len(classes)} classes"


def _column(table: Table, cells: list[str], train: list[int]) -> tuple[list[Float[Tensor, " rows"]], bool]:
    """Return what a column becomes, and whether it is of numbers; nothing if it tells no training rows apart."""
    there = [not is_missing(cell) for cell in cells]
    values = [table.number(cell) if filled else None for cell, filled in zip(cells, there, strict=True)]
    if all(value is not None for value, filled in zip(values, there, strict=True) if filled):
        return _numbers(values, train), True
    words = [cell.strip() if filled else "" for cell, filled in zip(cells, there, strict=True)]
    counts = Counter(words[row] for row in train)
    if len(counts) < 2 or (len(counts) > MOST_CATEGORIES and len(counts) > 0.9 * len(train)):
        return [], False
    frequent = [word for word, _ in counts.most_common(MOST_CATEGORIES)]
    made = [torch.tensor([float(word == category) for word in words]) for category in frequent]
    return [*made, torch.tensor([float(word not in frequent) for word in words])], False


def _numbers(values: list[float | None], train: list[int]) -> list[Float[Tensor, " rows"]]:
    seen = torch.tensor([value for row in train if (value := values[row]) is not None], dtype=torch.float64)
    gaps = torch.tensor([float(value is None) for value in values])
    made = []
    if len(seen) > 1 and seen.std() > 0:
        mean, spread = float(seen.mean()), float(seen.std())
        filled = torch.tensor([mean if value is None else value for value in values], dtype=torch.float64)
        made.append(((filled - mean) / spread).float())
    if 0 < gaps[train].sum() < len(train):
        made.append(gaps)
    return made
