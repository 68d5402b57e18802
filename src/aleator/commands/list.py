"""``aleator list``: the methods, recipes and data sets there are. Imports neither torch nor any extra."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import tyro

from aleator.commands import flags
from aleator.commands.methods import METHODS, verdicts
from aleator.commands.table import write_lines, write_table
from aleator.experiment import registry

BROKEN = "cannot be imported: "


@dataclass(frozen=True)
class List:
    """List the methods, recipes and data sets there are."""

    what: tyro.conf.Positional[Literal["all", "methods", "recipes", "data"]] = "all"
    """Which of them."""


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return flags.together({"list": List})


def main(args: Sequence[str]) -> int:
    """Write the lists and return the exit code."""
    (chosen,) = flags.parse({"list": List}, args, prog="aleator list")
    if chosen.what in ("all", "methods"):
        rows = [(m.name, m.room, m.summary, m.paper, verdicts(m)) for m in METHODS]
        write_table("Methods", ("name", "room", "what it does", "paper", "evidence"), rows)
    if chosen.what in ("all", "recipes"):
        write_table("Recipes", ("name", "task"), [(name, summary(name)) for name in registry.names()])
    if chosen.what in ("all", "data"):
        from aleator.commands.data import list_data

        write_lines("Data sets")
        return list_data()
    return 0


def summary(recipe: str) -> str:
    """Return a recipe's own first line, or why it cannot be imported: a broken recipe stays in the list."""
    try:
        return registry.describe(recipe)
    except Exception as error:
        return f"{BROKEN}{type(error).__name__}: {error}"
