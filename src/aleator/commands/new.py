"""``aleator new mine.py``: a recipe that runs as it is, to be changed into one's own."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import tyro

from aleator.commands import flags, logs
from aleator.commands.table import write_lines


@dataclass(frozen=True)
class New:
    """Write a recipe around a model and data, an example's or your own. It runs as it is; change it into yours."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE.py")]
    """The file to write. One that exists is left alone."""
    csv: Annotated[Path | None, tyro.conf.arg(metavar="TABLE")] = None
    """A table of your own, CSV or the like, to predict a column of."""
    target: Annotated[str | None, tyro.conf.arg(metavar="COLUMN")] = None
    """The column to predict: classes or numbers."""
    text: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Texts of your own: a folder with CLASS.txt, a text in each line, or CLASS/*.txt."""
    images: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None
    """Images of your own: a folder with CLASS/*.png, .jpg or the like."""


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return flags.together({"new": New})


def main(args: Sequence[str]) -> int:
    """Write the file and return the exit code."""
    chosen: New
    (chosen,) = flags.parse({"new": New}, args, prog="aleator new")
    file = chosen.file
    if file.suffix != ".py":
        raise ValueError(f"FILE must end in .py, got {str(file)!r}")
    if not file.parent.is_dir():
        raise ValueError(f"FILE must be in a folder that exists, got {str(file)!r}")
    starter, filled, examples = _starter(chosen)
    text = Path(__file__).with_name(starter).read_text(encoding="utf-8")
    text = text.replace("FILE:MyRecipe", shlex.quote(f"{file}:MyRecipe"))
    if examples is not None:
        whole = import_module(f"aleator.commands.{Path(starter).stem}").MyRecipe.batch_size
        text = _with_small_batches(text, whole, max(1, examples // 2))
    for name, value in filled.items():
        text = text.replace(f'"{name}"', json.dumps(value, ensure_ascii=False))
        text = text.replace(f"column {name} ", f"column {value} ")
    try:
        with file.open("x", encoding="utf-8") as target:  # never over a file that is there
            target.write(text)
    except FileExistsError:
        raise ValueError(f"{str(file)!r} exists already and is left alone; choose another name") from None
    commands = [line.strip() for line in text.splitlines() if line.startswith("    aleator ")]
    write_lines(f"wrote {file}; try", *(f"    {command}" for command in commands))
    return 0


def _with_small_batches(text: str, whole: int, most: int) -> str:
    """Return a starter whose batches have at most so many examples: it compares half of the training examples."""
    if most >= whole:
        return text
    head, docstring, fields = re.split(r'(class MyRecipe.*\n    """.*"""\n\n)', text, maxsplit=1)
    return f"{head}{docstring}    batch_size: int = {2 ** (most.bit_length() - 1)}\n{fields}"


def _starter(chosen: New) -> tuple[str, dict[str, str], int | None]:
    """Return the file to begin with, what its blanks are filled with, and the number of training examples.

    Data are read once, so that faults show now. An example's number is None: its batches fit.

    Raises:
        ValueError: if options do not fit together or data cannot be read.
    """
    given = [name for name in ("csv", "text", "images") if getattr(chosen, name) is not None]
    if len(given) > 1:
        raise ValueError(f"give one of csv, text and images, got {' and '.join(given)}")
    if (chosen.csv is None) != (chosen.target is None):
        raise ValueError(f"csv and target must be given together, got {'csv' if chosen.csv else 'target'} alone")
    if not given:
        return "starter.py", {}, None
    from aleator.data import image_splits, table_splits, text_splits
    from aleator.random import Streams

    generator = Streams(0).generator("split")
    with logs.shown():
        if chosen.csv is not None and chosen.target is not None:
            splits = table_splits(chosen.csv, chosen.target, generator)
            return "starter_table.py", {"CSV": str(chosen.csv), "TARGET": chosen.target}, len(splits["train"][0])
        if chosen.text is not None:
            splits = text_splits(chosen.text, generator)
            return "starter_text.py", {"FOLDER": str(chosen.text)}, len(splits["train"][0])
        assert chosen.images is not None
        splits = image_splits(chosen.images, generator)
        return "starter_images.py", {"FOLDER": str(chosen.images)}, len(splits["train"][0])
