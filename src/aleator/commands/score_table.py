"""Learning curves from a table: the column of sizes, the columns of scores, and the curve of each score.

Long tables have a line for each size and perhaps a column that names the system; wide ones have a column, or a line, of
scores for each system. A column is taken for what its name says; without a name that is known, the first column of
numbers holds sizes and the others scores. Lines may be in any order, and a size may have several scores. One line logs
how the table was understood, and a fault is reported with the number of its line.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aleator.data.own.table_reader import Row, Table, is_missing, is_slip, read_table

# Words of headings: sizes, scores, systems, repetitions, and what stands beside scores and is none.
SIZE = frozenset(["size", "sizes", "x", "n", "word", "words", "token", "tokens", "example", "examples", "sample"]) | {
    *("samples", "data", "sentences", "images", "documents", "items", "train_size", "training_size")
}
LOSS = frozenset(["loss", "losses", "error", "perplexity"])
SCORE = LOSS | frozenset(["score", "scores", "y", "accuracy", "acc", "f1", "value", "metric", "auc", "bleu"])
SYSTEM = frozenset(["system", "systems", "model", "method", "variant", "tagger", "algorithm", "learner", "name"])
REPEAT = frozenset(["seed", "fold", "run", "split", "trial", "repeat", "repetition", "replicate"])
ASIDE = frozenset(
    ["std", "sd", "stdev", "stderr", "se", "sem", "ci", "low", "high", "lower", "upper", "min", "max"]
) | {*("time", "seconds", "epoch", "epochs", "step", "steps", "index", "id")}


@dataclass
class Scores:
    """The curve of one system: sizes in rising order, and the scores of each, as many for all or their mean."""

    sizes: list[float] = field(default_factory=list)
    scores: list[list[float]] = field(default_factory=list)


@dataclass(frozen=True)
class ScoreTable:
    """What a file was understood to say: the curve of every system, without a name where there is one, and in words."""

    curves: dict[str, Scores]
    understood: str


@dataclass(frozen=True)
class _Entry:
    """One score: its system, size, the number of its repetition, and where it stands."""

    system: str
    size: float
    score: float
    repeat: str
    where: str


def read_scores(path: Path, higher_is_better: bool) -> ScoreTable:
    """Return the curve of every system of a file, in order of appearance.

    Args:
        path: the file, see `aleator.data.own.table_reader`.
        higher_is_better: whether the scores are accuracies: between 0 and 1, or in percent, between 0 and 100;
            otherwise they only must not be negative.

    Raises:
        ValueError: if the file is not there, is empty, or holds something else; one line with the number of the line.
    """
    table = read_table(path, "a CSV file")
    if not table.rows:
        raise ValueError(f"{path} is empty: it must have a line for each size")
    notes: list[str] = []
    entries = _across(table, notes) or _down(table, higher_is_better, notes)
    entries = _as_fractions(path, entries, higher_is_better, notes)
    curves = _curves(path, entries, notes)
    sizes = sorted({entry.size for entry in entries})
    systems = f"{len(curves)} systems ({', '.join(curves)}), " if len(curves) > 1 else ""
    said = ", ".join([f"{systems}{len(sizes)} sizes from {sizes[0]:,g} to {sizes[-1]:,g}", *notes, *table.notes])
    return ScoreTable(curves, f"{path.name}: {said}")


def _curves(path: Path, entries: Sequence[_Entry], notes: list[str]) -> dict[str, Scores]:
    """Gather the scores of each size of each system."""
    curves: dict[str, Scores] = {}
    averaged = False
    most = 1
    for system in dict.fromkeys(entry.system for entry in entries):
        found: dict[float, list[_Entry]] = {}
        for entry in entries:
            if entry.system == system:
                found.setdefault(entry.size, []).append(entry)
        if len(found) < 3:
            of = f" of system {system!r}" if system else ""
            raise ValueError(f"{path}: a curve needs at least 3 different sizes, got {len(found)}{of}")
        # Repetitions with a name are the same everywhere, whatever the order of the lines.
        scores = {size: [e.score for e in sorted(of, key=lambda e: e.repeat)] for size, of in sorted(found.items())}
        counts = {len(values) for values in scores.values()}
        most = max(most, *counts)
        if len(counts) > 1:  # a spread needs as many scores at every size
            averaged = True
            scores = {size: [math.fsum(values) / len(values)] for size, values in scores.items()}
        curves[system] = Scores(list(scores), list(scores.values()))
    if averaged:
        notes.append("scores of a size averaged, without a spread as sizes have not equally many")
    elif most > 1:
        notes.append(f"{most} scores for each size, averaged, their spread used")
    return curves


def _down(table: Table, higher_is_better: bool, notes: list[str]) -> list[_Entry]:
    """Read a table with a line for each size."""
    header, rows = _header(table)
    if not rows:
        raise ValueError(f"{table.path} has a header and no scores")
    names = [_word(name) for name in header] if header else [""] * table.width
    width = len(header) if header else len(rows[0].cells)
    for row in rows:
        if len(row.cells) > width:
            raise ValueError(
                f"{table.where(row)}: a line must have {width} cells like the first one, got {len(row.cells)}; "
                "put numbers with a comma in quotation marks"
            )
    names += [""] * (width - len(names))
    size, system, repeat, scores = _roles(table, rows, names, header or [])
    losses, gains = ([i for i in scores if words & set(names[i].split("_"))] for words in (LOSS, SCORE - LOSS))
    if losses and gains:  # of two kinds beside each other the one that was asked for
        scores = [i for i in scores if i not in (losses if higher_is_better else gains)]
    elif losses and higher_is_better and any((table.number(row.cell(i)) or 0) > 1 for row in rows for i in losses):
        raise ValueError(f"{table.path}: {header[losses[0]] if header else ''!r} is a loss: add --lower-is-better")
    if len(scores) > 1:
        labels = [(header[i] if header else "") or f"column {i + 1}" for i in scores]
        repeated = all(names[i].rstrip("0123456789") in REPEAT | {""} for i in scores)
        notes.append(f"scores in {len(scores)} columns")
        if repeated:
            labels = [""] * len(scores)
    else:
        labels = [""]
    if header:
        notes.insert(0, f"sizes in {header[size]!r}")
        if len(scores) == 1:
            notes.insert(1, f"scores in {header[scores[0]]!r}")
    left_out = [header[i] for i in range(width) if header and i not in (size, system, repeat, *scores) and header[i]]
    if left_out:
        notes.append(f"left out: {', '.join(left_out)}")
    percents = {i for i in scores if header and re.search(r"%|percent|\bpct\b", header[i].lower())}
    for i in percents if higher_is_better else ():
        found = [cell for row in rows if not is_missing(cell := row.cell(i))]
        if found and all("%" not in cell and (table.number(cell) or 0) <= 1 for cell in found):
            raise ValueError(
                f"{table.path}: {header[i] if header else ''!r} may be percentages or fractions, got {found[0]!r}; "
                "write fractions without % in the heading, or percentages with % in the cells"
            )
    entries, empty = [], 0
    for row in rows:
        where = table.where(row)
        at = _number(table, where, "size", row.cell(size), ".")
        if at <= 0:
            raise ValueError(f"{where}: size must be positive, got {at:g}")
        of = row.cell(system) if system is not None else ""
        if system is not None and not of:
            raise ValueError(f"{where}: {header[system] if header else 'system'} is missing")
        for column, label in zip(scores, labels, strict=True):
            text = row.cell(column)
            if is_missing(text) and len(scores) > 1:
                empty += 1
                continue
            value = _number(table, where, "score", text, ",")
            percent = "%" in text or column in percents
            name = f"{of} {label}".strip() if of and label else of or label
            again = row.cell(repeat) if repeat is not None else ""
            entries.append(_Entry(name, at, value / 100 if percent else value, again, where))
    if empty:
        notes.append(f"{empty} empty {'cell' if empty == 1 else 'cells'} left out")
    return entries


def _across(table: Table, notes: list[str]) -> list[_Entry]:
    """Read a table with a column for each size and a line for each system; nothing if it is not such a one."""
    first, *others = table.rows
    sizes = [table.number(cell) for cell in first.cells[1:]]
    if len(sizes) < 3 or not others or any(size is None or size <= 0 for size in sizes):
        return []
    if table.number(first.cells[0]) is not None or not all(table.number(row.cell(0)) is None for row in others):
        return []
    notes.append("a column for each size")
    entries = []
    for row in others:
        name = row.cells[0] if len(others) > 1 else ""
        for i, size in enumerate(sizes, 1):
            text = row.cell(i)
            if is_missing(text) or size is None:
                continue
            value = _number(table, table.where(row), "score", text, ",")
            entries.append(_Entry(name, size, value / 100 if "%" in text else value, "", table.where(row)))
    return entries


def _as_fractions(path: Path, entries: list[_Entry], higher_is_better: bool, notes: list[str]) -> list[_Entry]:
    """Check the scores, and turn whole columns of percents into fractions."""
    for entry in entries:
        if entry.score < 0:
            raise ValueError(f"{entry.where}: score must not be negative, got {entry.score:g}")
    if not higher_is_better:
        return entries
    result = []
    for system in dict.fromkeys(entry.system for entry in entries):
        mine = [entry for entry in entries if entry.system == system]
        largest = max(mine, key=lambda entry: entry.score)
        least = min(mine, key=lambda entry: entry.score)
        if largest.score <= 1:
            result += mine
            continue
        if largest.score > 100 or least.score <= 1:
            also = f" beside {least.score:g}" if largest.score <= 100 else ""
            raise ValueError(
                f"{largest.where}: scores must be in [0, 1], or all percentages, got {largest.score:g}{also}; "
                "write percentages with %, and for losses add --lower-is-better"
            )
        notes.append(f"percentages{f' of {system}' if system else ''}")
        result += [_Entry(e.system, e.size, e.score / 100, e.repeat, e.where) for e in mine]
    return result


def _header(table: Table) -> tuple[list[str] | None, list[Row]]:
    """Return the names of the columns, if the first line is none of numbers, and the lines below."""
    first, *rest = table.rows
    if any(table.number(cell) is not None for cell in first.cells) and _word(first.cells[0]) not in SIZE:
        return None, table.rows
    numeric = [i for i in range(table.width) if rest and all(_numeric(table, row.cell(i)) for row in rest)]
    if any(is_slip(first.cell(i)) for i in numeric or range(len(first.cells))):
        return None, table.rows
    return first.cells, rest


def _roles(
    table: Table, rows: Sequence[Row], names: Sequence[str], header: Sequence[str]
) -> tuple[int, int | None, int | None, list[int]]:
    """Return the columns of sizes, systems, repetitions and scores."""
    width = len(names)
    filled = [i for i in range(width) if names[i] or any(row.cell(i) for row in rows)]
    texts = [i for i in filled if not any(table.number(row.cell(i)) is not None for row in rows)]
    texts = [i for i in texts if names[i] not in SIZE | SCORE and len(rows) > 1]
    numbers = [i for i in filled if i not in texts]

    def named(words: frozenset[str], among: Sequence[int]) -> Iterator[int]:
        yield from (i for i in among if names[i] in words)
        yield from (i for i in among if names[i] not in words and words & set(names[i].split("_")))

    repeat = next((i for i in range(width) if names[i] in REPEAT), None)
    # "Our model" above numbers is a system, and its numbers are scores; "model" above numbers may be names.
    system = next(named(SYSTEM, [i for i in filled if i != repeat and (i in texts or names[i] in SYSTEM)]), None)
    if system is None:  # a column of texts that come again; texts that do not are names of lines
        repeated = (i for i in texts if i != repeat and len({row.cell(i) for row in rows}) < len(rows))
        system = next(repeated, None)
    free = [i for i in numbers if i not in (repeat, system)]
    counted = next((i for i in free if table.counts(rows, i) and not names[i]), None)
    size = next(named(SIZE, free), None)
    if counted is not None and (size is not None or len(free) > 2) and counted != size:
        free.remove(counted)  # the numbers of the lines
    size = next(iter(free), None) if size is None else size
    free = [i for i in free if i != size]
    scores = list(named(SCORE, [i for i in free if not ASIDE & set(names[i].split("_"))]))
    scores = scores or [i for i in free if not header or not ASIDE & set(names[i].split("_"))]
    if size is None or not scores:
        found = len(free) + (size is not None)
        raise ValueError(f"{table.where(rows[0])}: two columns are needed, size and score, got {found}")
    return size, system, repeat, sorted(scores)


def _numeric(table: Table, text: str) -> bool:
    return table.number(text) is not None or is_missing(text)


def _number(table: Table, where: str, name: str, text: str, doubt: str) -> float:
    if is_missing(text) and text.lower() != "nan":
        raise ValueError(f"{where}: {name} is missing")
    value = table.number(text)
    if value is None or not math.isfinite(value):
        raise ValueError(f"{where}: {name} must be a number, got {text!r}")
    if table.is_doubtful(text, doubt):
        raise ValueError(f"{where}: {name} may be thousands or a fraction, got {text!r}; write it in another way")
    return value


def _word(name: str) -> str:
    """A column's name in lower case, without unit and brackets: "Training size [words]" is training_size."""
    plain = re.sub(r"[(\[].*?[)\]]|%", "", name.lower()).strip()
    return re.sub(r"\W+", "_", plain).strip("_")
