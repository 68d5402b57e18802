"""The common ground of commands with a RECIPE: that word, the folder of results, the command that is in a folder."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro

from aleator.commands import flags
from aleator.commands.list import BROKEN, summary
from aleator.experiment import registry


@dataclass(frozen=True)
class Workers:
    """Who carries out many runs."""

    workers: int | None = None
    """Runs at the same time. Default: as many as the cores hold with the runs' threads."""
    ray: Annotated[str | None, tyro.conf.arg(metavar="ADDRESS")] = None
    """Carry the runs out on this Ray cluster; "local" starts one on this machine."""


class Begun(NamedTuple):
    """A command that is to be gone on with: the folder that holds it, what it was, and what was given now.

    Attributes:
        out: the folder.
        document: the file there that holds the command.
        name: the recipe; where it was named now, its place is the one of now.
        before: the words after the recipe, without those that say where.
        now: the words that were given beside ``--resume``.
    """

    out: Path
    document: dict[str, Any]
    name: str
    before: list[str]
    now: list[str]


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


def begun(args: Sequence[str], verb: str, file: str, what: str, holds: str, again: str) -> Begun:
    """Return the command whose results are in the folder that ``--out`` names.

    Args:
        args: given with ``--resume``.
        verb: of the command.
        file: that holds it.
        what: is to be gone on with.
        holds: the same with its preposition, such as ``"a comparison of"``.
        again: what to do where the file does not help.

    Raises:
        ValueError: if there is none, or it was about another recipe.
    """
    from aleator.experiment.files import DamagedFile, read_json

    out = folder_to_resume(args, file, what)
    try:
        document = read_json(out / file)
    except DamagedFile as error:
        raise ValueError(f"{error}; {again}") from None
    command = document.get("command")
    if not isinstance(command, list) or command[:2] != ["aleator", verb] or len(command) < 3:
        raise ValueError(f"{out / file} does not hold the command that made it; {again}")
    name, before = str(command[2]), [str(word) for word in command[3:]]
    now = list(args)
    if not args[0].startswith("-"):
        named = now.pop(0)
        if registry.short(named) != registry.short(name):
            of = holds.rpartition(" ")[2]
            raise ValueError(f"{out} holds {holds} recipe {registry.short(name)!r}, not {of} {registry.short(named)!r}")
        # The file of a recipe is looked for where the command names it now, else where it was.
        name = registry.absolute(named)
    return Begun(
        out, document, name, flags.without(before, ["out", "resume", "dry-run"]), flags.without(now, ["out", "resume"])
    )


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
