"""The packages of the extra ``video``, imported where they are first needed: the one place that names it."""

from __future__ import annotations

import importlib
from typing import Any


def needed(module: str, what: str) -> Any:
    """Return a module of the extra ``video``.

    Args:
        module: its name, such as ``"diffusers"``.
        what: needs it, in the plural: the beginning of the message.

    Raises:
        ModuleNotFoundError: if it is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0]
        raise ModuleNotFoundError(f"{what} need {package}: pip install 'aleator[video]'", name=error.name) from None
