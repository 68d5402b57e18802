"""The tables in README, method cards and the book, written from evidence, benchmarks and one list, never by hand.

A document holds the place of a table as two comment lines, ``<!-- begin TABLE -->`` and ``<!-- end TABLE -->``; what
stands between them is replaced.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from aleator.commands.methods import METHODS, is_identical, verdicts
from aleator.experiment.files import read_json, write_text
from aleator.experiment.report import words
from benchmarks.reading import judged, spread
from experiments import pays, planted
from experiments.book import chapter_map
from experiments.chooser import WISHES
from experiments.evidence import EVIDENCE, ROOT

BENCHMARKS = ROOT / "benchmarks" / "results"


def update(check: bool) -> list[Path]:
    """Bring every table up to date, unless only checking, and return the files that were not.

    Raises:
        ValueError: if a document names a table that does not exist.
    """
    stale = []
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text(encoding="utf-8")
        fresh = re.sub(r"(<!-- begin (\S+) -->\n).*?(<!-- end \2 -->)", _filled, text, flags=re.DOTALL)
        if fresh != text:
            stale.append(path.relative_to(ROOT))
            if not check:
                write_text(path, fresh)
    return stale


def _filled(match: re.Match[str]) -> str:
    kind, _, name = match[2].partition(":")
    makers: dict[str, Callable[[str], str]] = {
        "methods": _methods_table,
        "wishes": _wishes_table,
        "evidence": _evidence_table,
        "benchmarks": _benchmark_table,
        "survival": _survival_table,
        "endurance": lambda folder: _figures_table(folder, "survival.json", "endurance"),
        "swarms": lambda folder: _figures_table(folder, "swarms.json", "rows"),
        "pays": _pays_table,
        "planted": planted.table,
        "book": lambda _: chapter_map(),
    }
    if kind not in makers:
        raise ValueError(f"a table must be one of {', '.join(makers)}, got {match[2]!r}")
    return f"{match[1]}{makers[kind](name)}\n{match[3]}"


def _methods_table(_: str) -> str:
    rows = ["| method | room | what it does | evidence |", "|---|---|---|---|"]
    for method in METHODS:
        card = f"docs/methods/{method.name}.md"
        rows.append(f"| [{method.name}]({card}) | `{method.room}` | {method.summary} | {verdicts(method)} |")
    return "\n".join(rows)


def _wishes_table(cards: str) -> str:
    """Return what somebody may want, with links to the cards in this folder."""
    rows = ["| you want | method | one command | measured here |", "|---|---|---|---|"]
    for wish in WISHES:
        (claim,) = (
            claim
            for claim in _claims(wish.method)
            if (claim["experiment"], claim["claim"]) == (wish.experiment, wish.claim)
        )
        found = f"{claim['claim']}: {_difference(claim)}, **{claim['verdict']}**"
        rows.append(f"| {wish.want} | [{wish.method}]({cards}/{wish.method}.md) | `{wish.command}` | {found} |")
    return "\n".join(rows)


def _evidence_table(method: str) -> str:
    claims = _claims(method)
    what = "difference in accuracy" if all(_metric(claim) == "accuracy" for claim in claims) else "difference"
    rows = [f"| claim | data | seeds | {what}, 95 % interval | verdict |", "|---|---|---:|---|---|"]
    commands: dict[str, str] = {}
    for claim in claims:
        commands[claim["experiment"]] = claim["command"]
        verdict = "identical in every seed" if is_identical(claim) else f"**{claim['verdict']}**"
        cells = (claim["claim"], claim["data"], claim["seeds"] or "–", _difference(claim), verdict)
        rows.append(f"| {' | '.join(map(str, cells))} |")
    described = [f"- `{name}`: `{command}`" for name, command in commands.items()]
    return "\n".join([*rows, "", "Commands:", "", *described])


def _metric(claim: dict[str, Any]) -> str:
    """Return the metric of a claim's figures; the first of them is the difference, under the metric's name."""
    return next(iter(claim["figures"])).rpartition(" ")[0] if claim["figures"] else "accuracy"


def _difference(claim: dict[str, Any]) -> str:
    if claim["figures"] is None:
        return "–"
    name, mean = next(iter(claim["figures"].items()))
    if claim["relation"] == "more often than":
        _, won, lost = claim["figures"].values()
        low, high = claim["interval"] or (0.0, 1.0)
        return f"{name}: {won} of {won + lost}, {100 * mean:.0f} % [{100 * low:.0f}, {100 * high:.0f}]"
    metric = _metric(claim)
    said = f"{words.difference(metric, mean)} points"
    if metric != "accuracy":
        # The two means say what a difference alone does not: how large it is beside them.
        _, a, b = (*claim["figures"].values(), None, None)[:3]
        means = "" if a is None or b is None else f" ({words.number(a, 3)} against {words.number(b, 3)})"
        said = f"{name} {words.difference(metric, mean)}{means}"
    if claim["constant"]:
        return f"{said} in every seed"
    ends = ", ".join(words.difference(metric, end) for end in claim["interval"] or ())
    return f"{said} [{ends}]" if ends else said


def _benchmark_table(prefix: str) -> str:
    """Return the rows of all results whose names begin so; in brackets 95 % intervals, in parentheses extremes."""
    rows = [row for path in sorted(BENCHMARKS.glob(f"{prefix}*.json")) for row in read_json(path)["rows"]]
    if not any("interval" in row for row in rows):
        lines = ["| what | ours | peer | ratio, lowest to highest | target |", "|---|---|---|---|---|"]
        return "\n".join([*lines, *(f"| {' | '.join(_benchmark_cells(row))} |" for row in rows)])
    lines = [
        "| what | ours | peer | ratio [95 % interval] | target | limit | ours / limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        limit = row.get("limit")
        of_limit = (limit["what"], f"{spread(limit)}, {judged(limit)}") if limit else ("–", "–")
        lines.append(f"| {' | '.join([*_benchmark_cells(row), *of_limit])} |")
    return "\n".join(lines)


def _benchmark_cells(row: dict[str, Any]) -> list[str]:
    return [row["what"], row["ours"], row["peer"], spread(row), judged(row)]


_CUTS = {
    "kill": "killed before it",
    "torn": "killed in the middle of it",
    "full": "disk full from there on",
    "stale": "the rename fails once",
}


def _survival_table(folder: str) -> str:
    rows = ["| command | cut | operations that were cut | ended identical |", "|---|---|---|---|"]
    for row in read_json(ROOT / folder / "survival.json")["rows"]:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(row["kinds"].items()))
        which = "all" if row["every"] == 1 else f"one in {row['every']}"
        cut, ended = _CUTS[row["how"]], f"{row['identical']} of {row['cuts']}"
        rows.append(f"| `{row['command']}` | {cut} | {which}: {kinds} | {ended} |")
    return "\n".join(rows)


def _pays_table(part: str) -> str:
    makers = {"effects": pays.effects_table, "tasks": pays.tasks_table, "never": pays.never_table}
    return makers[part]()


def _figures_table(folder: str, file: str, part: str) -> str:
    rows = ["| what | what came of it |", "|---|---|"]
    for row in read_json(ROOT / folder / file)[part]:
        found = ", ".join(f"{name}: {value}" for name, value in row["figures"].items())
        rows.append(f"| {row['what']} | {found} |")
    return "\n".join(rows)


def _claims(method: str) -> list[dict[str, Any]]:
    path = EVIDENCE / f"{method}.json"
    return read_json(path)["claims"] if path.exists() else []
