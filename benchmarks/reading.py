"""How rows of results are shown, and what moved between two results.

A row has moved if its interval and that of the older result have nothing in common, or, where one of them has none, if
the new median lies outside the old extremes.
"""

from __future__ import annotations

from typing import Any

from aleator.experiment.report.words import number


def spread(figure: dict[str, Any]) -> str:
    """Return a median with its interval in brackets, or with lowest and highest value in parentheses."""
    ends = figure.get("interval")
    median = number(figure["ratio"]["median"], 3)
    low, high = (number((ends or figure["ratio"])[end], 3) for end in ("low", "high"))
    return f"{median} [{low}, {high}]" if ends else f"{median} ({low} to {high})"


def judged(figure: dict[str, Any]) -> str:
    """Return a target with its verdict."""
    return f"{figure['target']}: {figure['verdict']}" if "verdict" in figure else str(figure["target"])


def moved(before: dict[str, Any] | None, after: dict[str, Any]) -> list[str]:
    """Return a line for each row that differs from the result before it, and one for what it was measured on.

    Rows are matched by their work and by the peer without its time.
    """
    if before is None:
        return ["no committed result to compare with"]
    old = {_work(row): row for row in before["rows"]}
    lines = []
    if before["machine"] != after["machine"]:
        lines.append(f"another machine than the committed result's: {before['machine']}")
    for row in after["rows"]:
        last = old.pop(_work(row), None)
        if last is None:
            lines.append(f"new: {row['what']}")
        elif not _meet(last, row):
            lines.append(f"moved: {row['what']}, {_work(row)[1]}: {spread(last)} before, {spread(row)} now")
    lines += [f"gone: {what}, {peer}" for what, peer in old]
    return lines or ["nothing moved since the committed result"]


def _work(row: dict[str, Any]) -> tuple[str, str]:
    return row["what"], row["peer"].rpartition(":")[0]


def _meet(before: dict[str, Any], after: dict[str, Any]) -> bool:
    if "interval" in before and "interval" in after:
        old, new = before["interval"], after["interval"]
        return bool(old["low"] <= new["high"] and new["low"] <= old["high"])
    return bool(before["ratio"]["low"] <= after["ratio"]["median"] <= before["ratio"]["high"])
