"""Learning curves from a CSV file: sizes and scores, and the system that each line belongs to.

Columns are named ``size`` or ``x``, ``score`` or ``y``, and ``system``; without these names the first two columns are
size and score, in a file with or without a header; a header is a first line with a number in neither. What is wrong is
said with the number of its line.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

SIZE, SCORE, SYSTEM = ("size", "x"), ("score", "y"), ("system",)


@dataclass
class Scores:
    """The curve of one system."""

    sizes: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def read_scores(path: Path, higher_is_better: bool) -> dict[str, Scores]:
    """Return the curve of every system of a file, in order of appearance; without a system column its name is empty.

    Args:
        path: the file: UTF-8, cells divided by commas, semicolons or tabs.
        higher_is_better: whether the scores are accuracies, between 0 and 1; otherwise they only must not be negative.

    Raises:
        ValueError: if the file is not there, is empty, or holds something else; one line with the number of the line.
    """
    rows = list(_rows(path))
    if not rows:
        raise ValueError(f"{path} is empty: it must have a line for each size")
    width = len(rows[0][1])
    columns, rows = _columns(path, rows)
    curves: dict[str, Scores] = {}
    for line, row in rows:
        where = f"{path}, line {line}"
        if any(cell.strip() for cell in row[width:]):
            raise ValueError(f"{where}: a line must have {width} cells like the first one, got {len(row)}")
        size, score = (_number(where, name, row, columns[name]) for name in ("size", "score"))
        system = row[columns["system"]].strip() if columns.get("system", len(row)) < len(row) else ""
        if "system" in columns and not system:
            raise ValueError(f"{where}: system is missing")
        curve = curves.setdefault(system, Scores())
        if size <= 0:
            raise ValueError(f"{where}: size must be positive, got {size:g}")
        if curve.sizes and size <= curve.sizes[-1]:
            raise ValueError(f"{where}: sizes must increase from line to line, got {size:g} after {curve.sizes[-1]:g}")
        if higher_is_better and score > 1:
            advice = "divide percentages by 100; for losses add --lower-is-better"
            raise ValueError(f"{where}: score must be in [0, 1], got {score:g}; {advice}")
        if score < 0:
            raise ValueError(f"{where}: score must not be negative, got {score:g}")
        curve.sizes.append(size)
        curve.scores.append(score)
    for system, curve in curves.items():
        if len(curve.sizes) < 3:
            of = f" of system {system!r}" if system else ""
            raise ValueError(f"{path}: a curve needs at least 3 different sizes, got {len(curve.sizes)}{of}")
    return curves


def read_text(path: Path, kind: str) -> str:
    """Return the text of a file that a command got as ``FILE``.

    Args:
        path: the file.
        kind: what it must be, in words: ``"a CSV file"``.

    Raises:
        ValueError: if it is not there, is a folder, or is no text in UTF-8.
    """
    if not path.is_file():
        raise ValueError(f"FILE must be {kind}, got {path}, which {'is a folder' if path.is_dir() else 'is not there'}")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text in UTF-8") from None


def is_number(text: str) -> bool:
    """Whether a cell holds a number, be it infinite or "nan"."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def _rows(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the lines that are not blank, with their numbers."""
    text = read_text(path, "a CSV file")
    first = text.lstrip().partition("\n")[0]
    delimiter = next((mark for mark in ("\t", ";", ",") if mark in first), ",")
    reader = csv.reader(text.splitlines(), delimiter=delimiter)
    for row in reader:
        if any(cell.strip() for cell in row):
            yield reader.line_num, row


def _columns(path: Path, rows: list[tuple[int, list[str]]]) -> tuple[dict[str, int], list[tuple[int, list[str]]]]:
    """Return where the columns are, and the lines below the header."""
    names = [cell.strip().lower() for cell in rows[0][1]]
    found = {
        column: names.index(name)
        for column, words in (("size", SIZE), ("score", SCORE), ("system", SYSTEM))
        for name in words
        if name in names
    }
    free = [i for i in range(len(names)) if i not in found.values()]
    for column in ("size", "score"):
        if column not in found:
            if not free:
                raise ValueError(f"{path}, line {rows[0][0]}: two columns are needed, size and score, got {len(names)}")
            found[column] = free.pop(0)
    headed = not any(is_number(names[found[column]]) for column in ("size", "score"))
    if headed and len(rows) == 1:
        raise ValueError(f"{path} has a header and no scores")
    return found, rows[1:] if headed else rows


def _number(where: str, name: str, row: Sequence[str], column: int) -> float:
    text = row[column].strip() if column < len(row) else ""
    if not text:
        raise ValueError(f"{where}: {name} is missing")
    if not is_number(text) or not math.isfinite(float(text)):
        raise ValueError(f"{where}: {name} must be a number, got {text!r}")
    return float(text)
