"""A table as people have it: from any spreadsheet, with any header, in the numbers of any country.

The text may be UTF-8 or UTF-16, with or without a byte-order mark; cells may be divided by tabs, semicolons, commas,
vertical bars or spaces: the mark is taken with which most cells are numbers. A cell in quotation marks may go over
several lines. A number may have a decimal comma, thousands in groups of three, a percent sign, a currency, or k and M
for thousands and millions. What "1,234" means is decided by the other numbers of the table; a table in which it cannot
be decided is refused. This file knows cells and columns; what a column is for is decided by
`aleator.commands.score_table`, `aleator.commands.size_table` and `aleator.data.own.table_splits`.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

MARKS = {"\t": "tabs", ";": "semicolons", "|": "bars", ",": "commas", "  ": "aligned with spaces", " ": "spaces"}
MISSING = frozenset({"", "-", "–", "—", "na", "n/a", "#n/a", "<na>", "nan", "none", "null", "?"})

_SPACES = str.maketrans("", "", " \u00a0\u202f\u2009'’_")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2}(?:[ \u00a0\u202f\u2009'’_]\d{3})+(?:[.,]\d+)?")
_EITHER = re.compile(r"[+-]?[1-9]\d{0,2}[.,]\d{3}")  # 1,234: thousands or a fraction
_CURRENCY = r"(?:[$€£¥₹]|EUR|USD|GBP|CHF)"
_MONEY = re.compile(rf"([+-]?)(?:{_CURRENCY}\s*([+-]?[\d.,].*)|([\d.,].*?)\s*{_CURRENCY})")
_CLOSING = re.compile(r'[^"]*(?:""[^"]*)*"(?!")')  # a line in the midst of a cell that ends there
_JUDGED = 1000  # lines by which it is judged what divides cells
_POWERS = {"k": 1e3, "K": 1e3, "M": 1e6}


@dataclass(frozen=True)
class Row:
    """One line of a table: its number in the file, and its cells."""

    line: int
    cells: list[str]

    def cell(self, column: int) -> str:
        """Return a cell; what is not there is empty."""
        return self.cells[column] if column < len(self.cells) else ""


@dataclass
class Table:
    """The lines of a file, and how its numbers are written.

    Attributes:
        path: the file.
        rows: its lines that are not blank.
        decimal: what stands before fractions, ``"."`` or ``","``; None where no number of the table tells.
        notes: how the file is written where that is not the usual way, in words.
    """

    path: Path
    rows: list[Row]
    decimal: str | None = None
    notes: list[str] = field(default_factory=list)

    @property
    def width(self) -> int:
        """How many columns there are."""
        return max((len(row.cells) for row in self.rows), default=0)

    def number(self, text: str) -> float | None:
        """Return the number in a cell, a percentage as it is written, None where there is none."""
        return number(text, self.decimal or ".")

    def is_doubtful(self, text: str, mark: str) -> bool:
        """Whether 1.234 or 1,234, by the mark, may be either thousands or a fraction in this table."""
        return self.decimal is None and mark in text and bool(_EITHER.fullmatch(text.removesuffix("%").strip()))

    def counts(self, rows: Sequence[Row], column: int) -> bool:
        """Whether a column counts the rows from 0 or 1."""
        found = [self.number(row.cell(column)) for row in rows]
        return len(rows) > 1 and any(found == [float(i + start) for i in range(len(rows))] for start in (0, 1))

    def where(self, row: Row) -> str:
        """Return the place of a row, for messages."""
        return f"{self.path}, line {row.line}"


def read_text(path: Path, kind: str) -> str:
    """Return the text of a file that a command got as ``FILE``.

    Args:
        path: the file.
        kind: what it must be, in words: ``"a table"``.

    Raises:
        ValueError: if it is not there, is a folder, or is no text in UTF-8 or UTF-16.
    """
    if not path.is_file():
        raise ValueError(f"FILE must be {kind}, got {path}, which {'is a folder' if path.is_dir() else 'is not there'}")
    content = path.read_bytes()
    if content[:2] == b"PK":
        raise ValueError(f"{path} is a spreadsheet or an archive: save it as CSV")
    encoding = _encoding(content)
    try:
        return content.decode(encoding)
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text in UTF-8 or UTF-16: save it as CSV in UTF-8") from None


def read_table(path: Path, kind: str = "a table") -> Table:
    """Return a table and what was understood of how it is written.

    Args:
        path: the file.
        kind: what it must be, in words.

    Raises:
        ValueError: as `read_text`; if it is empty, or its numbers cannot be understood. One line, with the line's
            number where there is one.
    """
    text = read_text(path, kind)
    lines = list(enumerate(text.splitlines(), 1))
    while lines and not lines[0][1].strip():
        del lines[0]
    forced = None
    if lines and (found := re.fullmatch(r"sep=(.)", lines[0][1].strip())):  # what Excel writes for itself
        forced, lines = found[1], lines[1:]
    mark = forced or _mark([line for _, line in _without_comments(lines)])
    lines = _without_comments(_whole(lines, mark))
    rows = [Row(i, cells) for i, line in lines if not _is_rule(cells := _split(line, mark))]
    above = _above(rows, begins_with_comment=bool(lines) and text.lstrip("\ufeff \t\r\n").startswith("#"))
    rows = rows[above:]
    if mark in ("\t", "  ", " ") and _has_unnamed_names(rows):
        rows[0] = Row(rows[0].line, ["", *rows[0].cells])
    decimal = _decimal(path, rows)
    notes = [MARKS[mark]] if mark in MARKS and mark != "," else []
    notes += [f"{above} {'line' if above == 1 else 'lines'} above the table left out"] if above else []
    notes += ["UTF-16"] if _encoding(path.read_bytes()) == "utf-16" else []
    notes += ["decimal commas"] if decimal == "," else []
    return Table(path, rows, decimal, notes)


def number(text: str, decimal: str = ".") -> float | None:
    """Return the number in a cell, a percentage and an amount of money as it is written, or None without one.

    One in brackets is negative, as accountants write it; one that no float holds is none.
    """
    if _NUMBER.fullmatch(text) and (decimal == "." or "." not in text):  # most cells
        return _finite(float(text))
    cell = text.strip().replace("−", "-").removesuffix("%").strip()
    if cell[:1] == "(" and cell[-1:] == ")" and (inside := number(cell[1:-1], decimal)) is not None:
        return -inside
    if money := _MONEY.fullmatch(cell):
        cell = money[1] + (money[2] or money[3])
    power = _POWERS.get(cell[-1:], 1.0)
    cell = cell[:-1].strip() if power != 1.0 else cell
    if _GROUPED.fullmatch(cell):
        cell = cell.translate(_SPACES)
    other = "," if decimal == "." else "."
    if re.fullmatch(rf"[+-]?[1-9]\d{{0,2}}(?:\{other}\d{{3}})+(?:\{decimal}\d*)?", cell):
        cell = cell.replace(other, "")
    if other in cell or not _NUMBER.fullmatch(cell := cell.replace(decimal, ".")):
        return None
    return _finite(float(cell) * power)


def is_missing(text: str) -> bool:
    """Whether a cell says that there is no value."""
    return text.strip().lower() in MISSING


def is_slip(text: str) -> bool:
    """Whether a cell that is no number was meant to be one, 1O00 or 0.7.1, so that it is no heading."""
    letters = sum(character.isalpha() for character in text)
    return bool(re.match(r"\s*[+-]?[.,]?\d", text)) and letters < 3


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _encoding(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    start = content[:200]
    if 8 * start.count(0) > len(start):  # without a mark: which of the two bytes of a Latin letter is 0?
        return "utf-16-le" if start[1::2].count(0) >= start[::2].count(0) else "utf-16-be"
    return "utf-8-sig"


def _without_comments(lines: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
    """Return the lines that are neither blank nor comments; numpy marks a heading as a comment, which it stays not."""
    (first, *rest) = [(i, line) for i, line in lines if line.strip()] or [(0, "")]
    marked = [line.lstrip().startswith("#") and not re.match(r"\s*#n/a\b", line, re.IGNORECASE) for _, line in rest]
    if 2 * sum(marked) <= len(rest):  # else every line begins so: #1001 is the number of an order
        rest = [line for line, is_comment in zip(rest, marked, strict=True) if not is_comment]
    heading = (first[0], first[1].lstrip().removeprefix("#").lstrip())
    return [heading, *rest] if first[0] else []


def _whole(lines: Sequence[tuple[int, str]], mark: str) -> list[tuple[int, str]]:
    """Join the lines that a cell in quotation marks goes over; a mark that is never closed opens nothing."""
    if len(mark) > 1:
        return list(lines)
    cut = re.escape(mark)
    cell = re.compile(rf' *"[^"]*(?:""[^"]*)*"[^{cut}]*(?:{cut}|$)|(?! *")[^{cut}]*(?:{cut}|$)')

    def open_at(text: str) -> int | None:
        """Return where a cell begins that is not closed; None where all are."""
        at = 0
        while at < len(text):
            if not (found := cell.match(text, at)):
                return at
            at = found.end()
        return None

    joined: list[tuple[int, str]] = []
    index = 0
    while index < len(lines):
        number, text = lines[index]
        end = index + 1
        at = open_at(text) if '"' in text else None
        while at is not None:
            closing = next((i for i in range(end, len(lines)) if _CLOSING.match(lines[i][1])), None)
            if closing is None:
                break
            text = "\n".join([text, *(line for _, line in lines[end : closing + 1])])
            end = closing + 1
            at = open_at(text)
        joined.append((number, text))
        index = end
    return joined


def _above(rows: Sequence[Row], begins_with_comment: bool) -> int:
    """Return how many lines stand above the table: comments, or titles of one cell above a heading of several."""
    above = next((i for i, row in enumerate(rows) if len(row.cells) > 1), 0)
    if above and any(number(cell, decimal) is not None for cell in rows[above].cells for decimal in ".,"):
        return above if above == 1 and begins_with_comment else 0
    return above


def _has_unnamed_names(rows: Sequence[Row]) -> bool:
    """Whether the heading has a cell less than the lines, which begin with their names: so R writes a table."""
    if len(rows) < 3 or any(number(cell) is not None for cell in rows[0].cells):
        return False
    names = {row.cell(0) for row in rows[1:]}
    return len(names) == len(rows) - 1 and max(len(row.cells) for row in rows[1:]) == len(rows[0].cells) + 1


def _split(line: str, mark: str) -> list[str]:
    if mark == "  ":
        return re.split(r" {2,}", line.strip())
    if mark == " ":
        line = line.strip()
    if mark == "|":
        line = line.strip().removeprefix("|").removesuffix("|")
    try:
        cells = [cell.strip() for cell in next(csv.reader([line], delimiter=mark, skipinitialspace=True), [])]
    except csv.Error as error:
        raise ValueError(f"the line that begins {line[:20]!r} is none of a table: {error}") from None
    while len(cells) > 1 and not cells[-1]:
        cells.pop()
    return cells


def _is_rule(cells: Sequence[str]) -> bool:
    return all(re.fullmatch(r":?-{2,}:?", cell) for cell in cells)


def _mark(lines: Sequence[str]) -> str:
    """Return the mark between cells: that with which the largest share of the cells below the heading are numbers."""
    best, most = ",", -1.0
    lines = lines[:_JUDGED]
    for mark in MARKS:
        rows = [_split(line, mark) for line in lines]
        if not rows or max(map(len, rows)) < 2:
            continue
        body = [row for row in rows[1:] if not _is_rule(row)] or rows
        cells = [cell for row in body for cell in row]
        numbers = sum(any(number(cell, decimal) is not None for decimal in ".,") for cell in cells)
        even = sum(len(row) == len(rows[0]) for row in body) / len(body)
        share = numbers / len(cells) + even
        if share > most:
            best, most = mark, share
    return best


def _decimal(path: Path, rows: Sequence[Row]) -> str | None:
    """Return what stands before fractions, judging by the cells that can be read in one way only; None without any."""
    seen: dict[str, tuple[int, str]] = {}
    for row in rows:
        for cell in row.cells:
            if "." not in cell and "," not in cell:
                continue
            readable = [decimal for decimal in ".," if number(cell, decimal) is not None]
            if len(readable) == 1:
                seen.setdefault(readable[0], (row.line, cell))
    if len(seen) == 2:
        (line, cell), (line2, cell2) = seen["."], seen[","]
        raise ValueError(
            f"{path}: numbers must be written in one way, got {cell!r} in line {line} and {cell2!r} in line {line2}"
        )
    return next(iter(seen), None)
