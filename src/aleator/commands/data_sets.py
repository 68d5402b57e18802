"""The flags of ``aleator data list | fetch NAME | verify [NAME]``; what they do is in `aleator.commands.data`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from aleator.commands import flags

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
    return flags.choice(_summaries(), lambda verb: flags.together({verb: VERBS[verb]}))


def main(args: Sequence[str]) -> int:
    """Carry out one of the verbs and return its exit code."""
    if not args:
        raise ValueError(f"a verb is missing, write aleator data VERB (verbs: {', '.join(VERBS)})")
    if args[0] in ("-h", "--help"):
        flags.write_help(_summaries(), prog="aleator data", description="The data sets known by name.")
        return 0
    verb = args[0]
    if verb not in VERBS:
        raise ValueError(flags.unknown("verb", verb, VERBS))
    (chosen,) = flags.parse({verb: VERBS[verb]}, args[1:], prog=f"aleator data {verb}")
    from aleator.commands import data

    if verb == "list":
        return data.list_data()
    root = str(chosen.root) if chosen.root else None
    return data.fetch_data(chosen.name, root) if verb == "fetch" else data.verify_data(chosen.name or None, root)


def _summaries() -> dict[str, str]:
    return {verb: str(kind.__doc__) for verb, kind in VERBS.items()}
