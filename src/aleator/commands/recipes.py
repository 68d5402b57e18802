"""The common ground of ``run`` and ``compare``: the word RECIPE, the folder of results, the help that lists recipes."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from aleator.commands import flags
from aleator.commands.list import BROKEN, summary
from aleator.experiment import registry


def recipe_word(verb: str, args: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the recipe's name and the words after it; None when help was asked for and has been given.

    Raises:
        ValueError: if the first word is not a recipe.
    """
    if args and not args[0].startswith("-"):
        return args[0], list(args[1:])
    if "--help" in args or "-h" in args:
        listed = {name: summary(name) for name in registry.names()}
        description = (
            f"{verb.capitalize()} RECIPE: one of these, or a class of your own as path/to/file.py:Class. "
            f"`aleator {verb} RECIPE --help` shows all options, the recipe's own and the options of every {verb}."
        )
        flags.write_help(listed, prog=f"aleator {verb}", description=description)
        return None
    known = ", ".join(registry.names())
    raise ValueError(
        f"RECIPE is missing, write aleator {verb} RECIPE [--FIELD VALUE …] (recipes: {known}; or path/to/file.py:Class)"
    )


def folder_to_resume(args: Sequence[str], file: str, what: str) -> Path:
    """Return the folder that ``--out`` names.

    Raises:
        ValueError: if there is no ``--out``, or nothing to resume in the folder.
    """
    given = flags.last_value(args, "out")
    if given is None:
        raise ValueError(f"--out is missing: --resume needs the folder of the {what} to continue")
    if not (Path(given) / file).is_file():
        raise ValueError(f"there is no {what} to resume in {given}; start one without --resume")
    return Path(given)


def tree(parts: Callable[[type[Any]], dict[str, type[Any]]]) -> Any:
    """Return a subcommand for each registered recipe that can be imported, for completion."""
    listed = {name: line for name in registry.names() if not (line := summary(name)).startswith(BROKEN)}
    return flags.choice(listed, lambda name: flags.together(parts(registry.resolve(name))))


@contextlib.contextmanager
def folder(recipe: str, given: Path | None, prefix: str = "") -> Iterator[Path]:
    """Give the folder that was asked for, or ``runs/RECIPE/PREFIX TIME-ID``, which nobody else has.

    A folder made here is taken away again when nothing was written into it.
    """
    if given is not None:
        yield given
        return
    made = _made(Path("runs") / recipe.rpartition(":")[2], prefix)
    try:
        yield made
    finally:
        with contextlib.suppress(OSError):
            os.removedirs(made)  # removes folders that are empty and stops at one that is not


def _made(parent: Path, prefix: str) -> Path:
    # Of many processes that begin in one second another may have the name, or take an empty folder above it away.
    for _ in range(100):
        made = parent / f"{prefix}{datetime.now():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
        with contextlib.suppress(FileExistsError, FileNotFoundError):
            made.mkdir(parents=True)
            return made
    made.mkdir(parents=True)
    return made
