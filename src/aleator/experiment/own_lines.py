"""The line of a user's own recipe that an error came from."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path

from aleator.experiment.files import described

MODULE = "aleator_recipe_"
"""How the names of modules begin that are recipes in files."""


def own_line(error: BaseException) -> str | None:
    """Return ``FILE:LINE`` of the innermost line in a recipe's file, or in its folder, that an error came through.

    None where it came through no such line. A file below the working directory is named from there.
    """
    modules = [module for name, module in sys.modules.items() if name.startswith(MODULE)]
    folders = [Path(file).parent for module in modules if (file := getattr(module, "__file__", None))]
    for each in _with_causes(error):
        lines = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(each.__traceback__)]
        if isinstance(each, SyntaxError) and each.filename:
            lines.append((each.filename, each.lineno))
        for file, line in reversed(lines):
            path = Path(file)
            if "site-packages" not in path.parts and any(path.is_relative_to(folder) for folder in folders):
                here = path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
                return f"{here}:{line}"
    return None


def located(error: BaseException) -> str:
    """Return an error as one line, with the line of the user's recipe that it came from."""
    text, place = described(error), own_line(error)
    return text if place is None or place in text else f"{text} ({place})"


def _with_causes(error: BaseException) -> list[BaseException]:
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or each.__context__
    return found
