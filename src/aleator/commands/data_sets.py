"""The flags of ``aleator data list | fetch NAME | verify [NAME]``; what they do is in `aleator.commands.data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from aleator.commands import verbs

_Root = Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: ALEATOR_DATA, else a cache)")]


@dataclass(frozen=True)
class List:
    """List the data sets, and which are on this machine."""


@dataclass(frozen=True)
class Fetch:
    """Download a data set and check it against known sums."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME")]
    """The data set."""
    root: _Root = None
    """The folder that holds the data sets."""


@dataclass(frozen=True)
class Verify:
    """Compare the files of a data set, or of all, with their known sums."""

    name: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="NAME", help_behavior_hint="(default: all)")] = ""
    """The data set."""
    root: _Root = None
    """The folder that holds the data sets."""


VERBS: dict[str, type[Any]] = {"list": List, "fetch": Fetch, "verify": Verify}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return verbs.options(VERBS)


def main(args: Sequence[str]) -> int:
    """Carry out one of the verbs and return its exit code."""
    asked = verbs.chosen("data", VERBS, args, "The data sets known by name.")
    if asked is None:
        return 0
    verb, chosen = asked
    from aleator.commands import data

    if verb == "list":
        return data.list_data()
    root = str(chosen.root) if chosen.root else None
    return data.fetch_data(chosen.name, root) if verb == "fetch" else data.verify_data(chosen.name or None, root)
