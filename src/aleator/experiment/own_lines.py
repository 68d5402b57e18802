"""The line of a user's own recipe that an error came from."""

from __future__ import annotations

import contextlib
import dis
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from aleator.experiment.files import described

MODULE = "aleator_recipe_"
"""How the names of modules begin that are recipes in files."""


def own_line(error: BaseException) -> str | None:
    """Return ``FILE:LINE`` of the innermost line in a recipe's file, or in its folder, that an error came through.

    Where it came through no such line, the place that `comes_from` noted, or None. A file below the working directory
    is named from there.
    """
    for each in _with_causes(error):
        lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(each.__traceback__)]
        if isinstance(each, SyntaxError) and each.filename:
            lines.append((each.filename, each.lineno))
        for file, line in reversed(lines):
            if _is_own(file):
                return _shown(file, line)
        for note in getattr(each, "__notes__", ()):
            if isinstance(note, _Place):
                return note
    return None


@contextlib.contextmanager
def comes_from(method: Any) -> Iterator[None]:
    """Blame a method of a recipe for an error of the block that no line of a user's file is to blame for.

    A network of layers of torch's fails in torch, far from the line that made it of layers that do not fit.
    """
    try:
        yield
    except Exception as error:
        if own_line(error) is None and (place := place_of(method)):
            error.add_note(_Place(place))
        raise


def place_of(method: Any) -> str | None:
    """Return ``METHOD in FILE:LINE`` of a method in a recipe's file, or in its folder; None of another."""
    code = getattr(method, "__code__", None)
    if code is None or not _is_own(code.co_filename):
        return None
    return f"{method.__name__} in {_shown(code.co_filename, code.co_firstlineno)}"


def located(error: BaseException) -> str:
    """Return an error as one line, with the line of the user's recipe that it came from.

    A `ValueError` that a recipe raises itself is about its options, and says all that there is to say.
    """
    text, place = described(error), own_line(error)
    if place is None or place in text or (isinstance(error, ValueError) and _is_raised_there(error)):
        return text
    return f"{text} ({place})"


class _Place(str):
    """A note of an error that says where in a recipe it comes from."""


def _shown(file: str, line: int | None) -> str:
    path = Path(file)
    here = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
    return f"{here}:{line}"


def _is_own(file: str) -> bool:
    modules = [module for name, module in sys.modules.items() if name.startswith(MODULE)]
    folders = [Path(own).parent for module in modules if (own := getattr(module, "__file__", None))]
    path = Path(file)
    return "site-packages" not in path.parts and any(path.is_relative_to(folder) for folder in folders)


def _is_raised_there(error: BaseException) -> bool:
    """Whether an error comes from a ``raise`` in a recipe, and not from what it called."""
    step = error.__traceback__
    while step is not None and step.tb_next is not None:
        step = step.tb_next
    if step is None or not _is_own(step.tb_frame.f_code.co_filename):
        return False
    return step.tb_frame.f_code.co_code[step.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _with_causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return found
