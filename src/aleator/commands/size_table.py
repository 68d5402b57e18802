"""Sizes of domains from a file: a table with a name and a size in each line, or JSON in any of its usual forms.

    {"en": 1000, "ro": 20}      [["en", 1000], ["ro", 20]]      [{"name": "en", "size": 1000}, …]
    {"name": ["en", "ro"], "size": [1000, 20]}      one JSON object in each line      [1000, 20]

One line logs how the table was understood.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aleator.data.own.table_reader import Row, Table, is_missing, is_slip, read_table, read_text

NAME = ("name", "domain", "language", "lang", "dataset", "source", "corpus")
SIZE = ("size", "sizes", "n", "count", "examples", "tokens", "words", "bytes", "sentences", "documents")

_FORMS = '{"en": 1000, …}, [["en", 1000], …] or [{"name": "en", "size": 1000}, …]'


@dataclass(frozen=True)
class SizeTable:
    """The sizes of the domains by name, and how the file was understood, in words."""

    sizes: dict[str, float]
    understood: str


def read_sizes(path: Path) -> SizeTable:
    """Read the sizes of domains from a table or from JSON.

    Raises:
        ValueError: if there is no such file, or it holds something else; one line.
    """
    text = read_text(path, "a JSON or CSV file").strip()
    if path.suffix in (".json", ".jsonl") or text[:1] in ("{", "["):
        pairs, form = _from_json(path, text)
    else:
        pairs, form = _from_table(read_table(path))
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        raise ValueError(f"names in {path} must differ, got {', '.join(names)}")
    for name, size in pairs:
        if isinstance(size, bool) or not isinstance(size, (int, float)) or not 0 <= size < math.inf:
            raise ValueError(f"size of {name!r} must be a finite number, not negative, got {size!r}")
    if not any(size for _, size in pairs):
        raise ValueError(f"{path} must hold at least one domain with a positive size, got {len(pairs)} without")
    return SizeTable(dict(pairs), f"{path.name}: {len(pairs)} domains, {form}")


def _from_json(path: Path, text: str) -> tuple[list[tuple[str, Any]], str]:
    def distinct(found: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(found)) < len(found):
            raise ValueError(f"names in {path} must differ, got {', '.join(name for name, _ in found)}")
        return dict(found)

    try:
        content = json.loads(text, object_pairs_hook=distinct)
    except json.JSONDecodeError as error:
        try:  # an object in each line
            content = [json.loads(line, object_pairs_hook=distinct) for line in text.splitlines() if line.strip()]
        except json.JSONDecodeError:
            raise ValueError(f"{path} must be JSON: {error}") from None
    if isinstance(content, dict):
        name, size = _key(content, NAME), _key(content, SIZE)
        if name and size and isinstance(content[name], list) and isinstance(content[size], list):
            if len(content[name]) != len(content[size]):
                lengths = f"{len(content[name])} and {len(content[size])}"
                raise ValueError(f"{name} and {size} in {path} must be lists of one length, got {lengths}")
            return list(zip(map(str, content[name]), content[size], strict=True)), "JSON with a list for each column"
        if len(content) == 1 and isinstance(inner := next(iter(content.values())), dict):
            return list(inner.items()), f"JSON mapping under {next(iter(content))!r}"
        return list(content.items()), "JSON mapping"
    if isinstance(content, list) and content:
        if all(isinstance(entry, (int, float)) and not isinstance(entry, bool) for entry in content):
            return [(str(i), size) for i, size in enumerate(content, 1)], "JSON list of sizes, named by their numbers"
        if all(isinstance(entry, list) and len(entry) == 2 and isinstance(entry[0], str) for entry in content):
            return [(name, size) for name, size in content], "JSON list of pairs"
        if all(isinstance(entry, dict) for entry in content):
            return [_record(path, i, entry) for i, entry in enumerate(content, 1)], "JSON list of objects"
    if isinstance(content, list):
        entry = next((found for found in content if not isinstance(found, (list, dict))), content)
        raise ValueError(f"{path} must hold sizes by name, {_FORMS}, got {json.dumps(entry)[:60]}")
    raise ValueError(f"{path} must hold sizes by name, {_FORMS}, got {type(content).__name__}")


def _record(path: Path, number: int, entry: Mapping[str, Any]) -> tuple[str, Any]:
    name, size = _key(entry, NAME), _key(entry, SIZE)
    if name and size:
        return str(entry[name]), entry[size]
    if len(entry) == 1:
        return next(iter(entry.items()))
    raise ValueError(f"entry {number} of {path} must have a name and a size, {_FORMS}, got {json.dumps(entry)[:60]}")


def _key(entry: Mapping[str, Any], words: Sequence[str]) -> str | None:
    return next((key for word in words for key in entry if key.strip().lower() == word), None)


def _from_table(table: Table) -> tuple[list[tuple[str, Any]], str]:
    rows = table.rows
    if not rows:
        raise ValueError(f"{table.path} is empty: it must have a line for each domain")
    if across := _across(table):
        return across, ", ".join(["a column for each domain", *table.notes])
    header = _header(table)
    words = [cell.strip().lower() for cell in rows[0].cells] if header else []
    body = rows[1:] if header else rows
    width = max(len(row.cells) for row in rows)
    name = next((words.index(word) for word in NAME if word in words), None)
    size = next((words.index(word) for word in SIZE if word in words), None)
    numeric = [i for i in range(width) if i != name and all(table.number(row.cell(i)) is not None for row in body)]
    if name is None:
        texts = (i for i in range(width) if i not in numeric and i != size)
        name = next(texts, 0)
    if size is None:
        size = next((i for i in numeric if i != name), 1)
    pairs = []
    for row in body:
        value = table.number(row.cell(size)) if not is_missing(row.cell(size)) else None
        if value is None or not row.cell(name) or (not header and len(row.cells) > 2):
            raise ValueError(
                f"line {row.line} of {table.path} must be a name and a size, got {','.join(row.cells)!r}; "
                "put numbers with a comma in quotation marks"
            )
        if table.is_doubtful(row.cell(size), "."):
            raise ValueError(
                f"line {row.line} of {table.path}: size may be thousands or a fraction, got {row.cell(size)!r}; "
                "write it in another way"
            )
        pairs.append((row.cell(name), value))
    form = "a table of names and sizes"
    if header:
        form = f"names in {rows[0].cell(name)!r}, sizes in {rows[0].cell(size)!r}"
    return pairs, ", ".join([form, *table.notes])


def _header(table: Table) -> bool:
    """Whether the first line names columns: it holds no number, and nothing that was meant to be one."""
    first = table.rows[0].cells
    return len(table.rows) > 1 and not any(table.number(cell) is not None or is_slip(cell) for cell in first)


def _across(table: Table) -> list[tuple[str, Any]]:
    """Read a table of two lines, names and sizes; nothing if it is not such a one."""
    if len(table.rows) != 2:
        return []
    first, second = (_without_label(row) for row in table.rows)
    sizes = [table.number(cell) for cell in second]
    if len(first) != len(second) or len(first) < 2 or any(size is None for size in sizes):
        return []
    if any(table.number(cell) is not None or is_slip(cell) for cell in first):
        return []
    return list(zip(first, sizes, strict=True))


def _without_label(row: Row) -> list[str]:
    return row.cells[1:] if row.cells[0].strip().lower() in (*NAME, *SIZE, "") else row.cells
