"""``aleator new mine.py``: a recipe that runs as it is, to be changed into one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from aleator.commands import flags
from aleator.commands.table import write_lines

STARTER = Path(__file__).with_name("starter.py")


@dataclass(frozen=True)
class New:
    """Write a commented recipe around a model and a data set. It runs as it is; change it into yours."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py")]
    """The file to write. One that exists is left alone."""


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return flags.together({"new": New})


def main(args: Sequence[str]) -> int:
    """Write the file and return the exit code."""
    (chosen,) = flags.parse({"new": New}, args, prog="aleator new")
    file: Path = chosen.file
    if file.suffix != ".py":
        raise ValueError(f"FILE must end in .py, got {str(file)!r}")
    if not file.parent.is_dir():
        raise ValueError(f"FILE must be in a folder that exists, got {str(file)!r}")
    text = STARTER.read_text(encoding="utf-8").replace("FILE:MyRecipe", f"{file}:MyRecipe")
    try:
        with file.open("x", encoding="utf-8") as target:  # never over a file that is there
            target.write(text)
    except FileExistsError:
        raise ValueError(f"{str(file)!r} exists already and is left alone; choose another name") from None
    commands = [line.strip() for line in text.splitlines() if line.startswith("    aleator ")]
    write_lines(f"wrote {file}; try", *(f"    {command}" for command in commands))
    return 0
