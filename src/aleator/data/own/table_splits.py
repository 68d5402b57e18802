"""A table with a column to predict: numbers standardised, categories as indicators, missing values as such.

What is learned about columns, their means and their categories, is learned from training rows alone.
"""

from __future__ import annotations

import logging
import re
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
MOST_NUMBERS = 0.8  # of a column, from which on its words say that there is no number

_NUMBER = re.compile(r"|(?:.*[\W_])?(?:id|index|row|nr|no|number)\.?|unnamed: 0")  # headings of numbers of rows

Splits = dict[str, tuple[Tensor, Tensor]]


def table_splits(path: str | Path, target: str, generator: torch.Generator) -> Splits:
    """Return 70 % of a table's rows to learn from, 15 % to choose by and 15 % to report, as tensors.

    A target of words, or of whole numbers with at most 20 values, is classes, int64 from 0 in the order of their
    names; another one is a number, standardised by the training rows. A column of numbers is standardised; where it
    has missing values they are its mean, and a further column says so. A column of words is an indicator for each of
    its 50 most frequent categories and one for all others. Where more than 50 different numbers are four fifths of a
    column, its words are missing values. Columns that are the same in all training rows, those of words that differ in
    every row, and one that numbers the rows and says so, are left out. One line of the log says what was understood.

    Args:
        path: a table with a heading: CSV or the like, in any encoding and with decimal points or commas.
        target: the column to predict. Rows without a value in it are left out.
        generator: draws the rows of the three parts.

    Raises:
        ValueError: if the file is no table, has no such column, or nothing to predict it from, or a number may be
            thousands or a fraction; one line.
    """
    table = read_table(Path(path))
    heading, rows = _heading(table, target)
    at = heading.index(target)
    known = [row for row in table.rows[1:] if not is_missing(row.cell(at))]
    parts = drawn(len(known), generator)
    y, kind = _target(table, known, at, target, parts["train"])
    columns, numbers, words, left, odd = [], 0, 0, [], []
    for index, name in enumerate(heading):
        if index == at:
            continue
        # In a table that is sorted by its target the numbers of the rows tell it.
        if _NUMBER.fullmatch(name.lower()) and table.counts(table.rows[1:], index):
            left.append(name or "the numbers of the rows")
            continue
        _check_thousands(table, index, name)
        made, is_number, strays = _column(table, [row.cell(index) for row in known], parts["train"].tolist())
        if not made:
            left.append(name)
        elif strays:
            odd.append(f"{', '.join(map(repr, strays[:3]))}{' …' if len(strays) > 3 else ''} in {name}")
        columns += made
        numbers, words = numbers + (is_number and bool(made)), words + (not is_number and bool(made))
    if not columns:
        raise ValueError(f"{path}: no column tells rows apart, so that {target} cannot be predicted")
    x = torch.stack(columns, 1)
    gone = rows - len(known)
    missing = f", {gone} {'row' if gone == 1 else 'rows'} without it left out" if gone else ""
    without = f", left out: {', '.join(left[:5])}{' …' if len(left) > 5 else ''}" if left else ""
    strange = f", taken as missing: {'; '.join(odd[:5])}{' …' if len(odd) > 5 else ''}" if odd else ""
    _log.info(
        "%s: %s is %s%s; columns: %d of numbers, %d of words%s%s; rows: %s",
        path, target, kind, missing, numbers, words, without, strange, said(parts),
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
    for row in table.rows[1:]:
        if len(row.cells) > len(names):
            raise ValueError(
                f"{table.where(row)}: a line must have {len(names)} cells like the heading, got {len(row.cells)}; "
                "put cells with a comma or the like in quotation marks"
            )
    return names, len(table.rows) - 1


def _check_thousands(table: Table, column: int, name: str) -> None:
    """Refuse 1.200 beside 950 where no number of the table tells what the point is.

    Raises:
        ValueError: naming the line.
    """
    if table.decimal is not None:
        return
    cells = [(row, row.cell(column)) for row in table.rows[1:]]
    doubtful = next(((row, cell) for row, cell in cells if table.is_doubtful(cell, ".")), None)
    plain = any(table.number(cell) is not None and not table.is_doubtful(cell, ".") for _, cell in cells)
    if doubtful and plain:
        raise ValueError(
            f"{table.where(doubtful[0])}: {name} may be thousands or a fraction, got {doubtful[1]!r}; "
            "write it in another way"
        )


def _target(table: Table, rows: Sequence[Row], at: int, name: str, train: Tensor) -> tuple[Tensor, str]:
    cells = [row.cell(at).strip() for row in rows]
    values = [table.number(cell) for cell in cells]
    found = [value for value in values if value is not None]
    if _mostly_numbers(found, len(values)) and len(found) < len(values):
        row = rows[values.index(None)]
        raise ValueError(
            f"{table.where(row)}: {name} must be a number as in other rows, got {row.cell(at)!r}; "
            "rows with an empty cell are left out"
        )
    _check_thousands(table, at, name)
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


def _mostly_numbers(found: Sequence[float], filled: int) -> bool:
    return len(found) >= MOST_NUMBERS * filled and len(set(found)) > MOST_CATEGORIES


def _column(table: Table, cells: list[str], train: list[int]) -> tuple[list[Float[Tensor, " rows"]], bool, list[str]]:
    """Return what a column becomes, whether it is of numbers, and the words among them.

    A column that tells no training rows apart becomes nothing.
    """
    there = [not is_missing(cell) for cell in cells]
    values = [table.number(cell) if filled else None for cell, filled in zip(cells, there, strict=True)]
    strays = {cell: None for cell, value, filled in zip(cells, values, there, strict=True) if filled and value is None}
    if not strays or _mostly_numbers([value for value in values if value is not None], sum(there)):
        return _numbers(values, train), True, list(strays)
    words = [cell.strip() if filled else "" for cell, filled in zip(cells, there, strict=True)]
    counts = Counter(words[row] for row in train)
    if len(counts) < 2 or len(counts) > 0.9 * len(train):
        return [], False, []
    frequent = [word for word, _ in counts.most_common(MOST_CATEGORIES)]
    made = [torch.tensor([float(word == category) for word in words]) for category in frequent]
    return [*made, torch.tensor([float(word not in frequent) for word in words])], False, []


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
