"""``aleator certify``: what a held-out set says about a model's accuracy, from two counts or from a table of scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from aleator.commands import flags
from aleator.commands.table import write_lines, write_table
from aleator.data.own.table_reader import Row, Table, is_missing, read_table
from aleator.stats import Certificate, accuracy_bound, difference_bound, holm, loss_bound, mcnemar


@dataclass(frozen=True)
class Certify:
    """Bound the accuracy of a model on new examples, from examples that nothing was chosen on."""

    correct: int | None = None
    """Right answers on the held-out examples."""
    n: int | None = None
    """Held-out examples."""
    scores: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    """Instead of the counts, a table with a column for each model, named in its first line, and a line for each
    example: 1 where the model is right and 0 where it is not, or a loss in [0, 1]."""
    delta: float = 0.05
    """Probability that a bound may be wrong."""
    method: Literal["clopper_pearson", "hoeffding", "kl", "empirical_bernstein", "wilson"] = "clopper_pearson"
    """Of the bound on accuracy; losses always take empirical_bernstein. wilson has no guarantee."""
    side: Literal["lower", "upper", "both"] = "lower"
    """Of accuracy; losses take the other side."""
    candidates: int = 1
    """Models among which one may be chosen on these examples, checkpoints included."""
    used_for_choosing: bool = False
    """Say so where the examples served for early stopping or for choosing; then candidates must be given."""


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return flags.together({"certify": Certify})


def main(args: Sequence[str]) -> int:
    """Write the bounds and return the exit code."""
    (asked,) = flags.parse({"certify": Certify}, args, prog="aleator certify")
    return certify(asked)


def certify(asked: Certify) -> int:
    """Write the bounds.

    Raises:
        ValueError: if counts and a file are both given or neither, the file holds something else, or an option is out
            of range.
    """
    given = asked.correct is not None or asked.n is not None
    if given == (asked.scores is not None):
        raise ValueError(f"give either --correct and --n or --scores FILE, got {'both' if given else 'neither'}")
    if asked.scores is not None:
        return _of_scores(asked, asked.scores)
    if asked.correct is None or asked.n is None:
        raise ValueError(f"--correct and --n belong together, --{'n' if asked.n is None else 'correct'} is missing")
    certificate = _accuracy(asked, asked.correct, asked.n, asked.candidates)
    write_lines(_sentence("accuracy", certificate), f"{certificate.counted}; {_terms(certificate)}")
    return 0


def _of_scores(asked: Certify, path: Path) -> int:
    models = read_columns(path)
    candidates = max(asked.candidates, len(models))
    right = all(value in (0.0, 1.0) for values in models.values() for value in values)
    certificates = {name: _of_model(asked, values, candidates, right) for name, values in models.items()}
    what = "accuracy" if right else "mean loss"
    bounds = [(name, f"{c.estimate:.4f}", _number(c)) for name, c in certificates.items()]
    some = next(iter(certificates.values()))
    first, *others = models
    pairs = [_pair(asked, models[other], models[first], len(others)) for other in others]
    write_table(
        f"{what} on new examples, from {some.n} examples of {path.name}", ("model", "here", _head(some)), bounds
    )
    if others:
        p_values = [f"{p:.3g}" for p in holm([_p(models[other], models[first]) for other in others])] if right else []
        rows = [
            (other, *pair, p) for other, pair, p in zip(others, pairs, p_values or ["–"] * len(others), strict=True)
        ]
        headings = ("model", "here", "new examples", "p (McNemar, Holm)" if len(others) > 1 else "p (McNemar)")
        write_table(f"Difference from {first}", headings, rows)
    write_lines(_terms(some, "each table is " if len(models) > 1 else ""))
    return 0


def _of_model(asked: Certify, values: list[float], candidates: int, right: bool) -> Certificate:
    if right:
        return _accuracy(asked, round(math.fsum(values)), len(values), candidates)
    other: dict[str, Literal["lower", "upper", "both"]] = {"lower": "upper", "upper": "lower", "both": "both"}
    side = other[asked.side]
    return loss_bound(
        values, asked.delta, "empirical_bernstein", side, candidates, used_for_choosing=asked.used_for_choosing
    )


def _accuracy(asked: Certify, correct: int, n: int, candidates: int) -> Certificate:
    return accuracy_bound(
        correct, n, asked.delta, asked.method, asked.side, candidates, used_for_choosing=asked.used_for_choosing
    )


def _pair(asked: Certify, a: list[float], b: list[float], pairs: int) -> tuple[str, str]:
    found = difference_bound(a, b, asked.delta, candidates=max(pairs, asked.candidates - 1))
    return f"{found.estimate:+.4f}", _number(found, signed=True)


def _p(a: list[float], b: list[float]) -> float:
    return mcnemar(sum(x > y for x, y in zip(a, b, strict=True)), sum(y > x for x, y in zip(a, b, strict=True)))


def read_columns(path: Path) -> dict[str, list[float]]:
    """Return the columns of a table by the names in its first line.

    Args:
        path: a table that `read_table` reads; every cell below the names a number in [0, 1]. A first column with the
            names or the numbers of the examples is left out.

    Raises:
        ValueError: if the file is not there or holds something else; one line with the number of the line.
    """
    table = read_table(path)
    if len(table.rows) < 2:
        raise ValueError(f"{path} must have the names of the models in its first line and a line for each example")
    if _has_names_of_lines(table):
        table = replace(table, rows=[Row(row.line, row.cells[1:]) for row in table.rows])
    head, *rows = table.rows
    names = head.cells
    if any(table.number(name) is not None or is_missing(name) for name in names) or len(set(names)) < len(names):
        raise ValueError(f"{table.where(head)}: must be the names of the models, all different, got {names}")
    columns: dict[str, list[float]] = {name: [] for name in names}
    for row in rows:
        if len(row.cells) != len(names):
            raise ValueError(f"{table.where(row)}: must have {len(names)} cells, one a model, got {len(row.cells)}")
        for name, cell in zip(names, row.cells, strict=True):
            value = table.number(cell)
            if value is None or not 0 <= value <= 1:
                raise ValueError(f"{table.where(row)}: {name} must be a number in [0, 1], got {cell!r}")
            columns[name].append(value)
    return columns


def _has_names_of_lines(table: Table) -> bool:
    head, *rows = table.rows
    words = {row.cell(0) for row in rows if table.number(row.cell(0)) is None}
    names = not head.cell(0) or (len(rows) > 2 and (len(words) == len(rows) or table.counts(rows, 0)))
    return len(head.cells) > 1 and names


def _sentence(what: str, certificate: Certificate) -> str:
    return f"{what} on new examples: {_head(certificate)} {_number(certificate)} ({certificate.method})"


def _head(certificate: Certificate) -> str:
    return {"lower": "at least", "upper": "at most", "both": "within"}[certificate.side]


def _number(certificate: Certificate, signed: bool = False) -> str:
    """Write a bound to five places, rounded away from the estimate so that it still holds."""
    form, bound = "{:+.5f}" if signed else "{:.5f}", certificate.bound
    if isinstance(bound, tuple):
        low, high = math.floor(bound[0] * 1e5) / 1e5, math.ceil(bound[1] * 1e5) / 1e5
        return f"[{form.format(low)}, {form.format(high)}]"
    rounded = math.floor if certificate.side == "lower" else math.ceil
    return form.format(rounded(bound * 1e5) / 1e5)


def _terms(certificate: Certificate, subject: str = "") -> str:
    among = f" for all {certificate.candidates} candidates at once" if certificate.candidates > 1 else ""
    return f"{subject}wrong with probability at most {certificate.delta:g}{among}, if {certificate.assumptions}"
