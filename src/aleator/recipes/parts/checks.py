"""Checks of options that every part makes in the same words."""

from __future__ import annotations

import math
from typing import Any


def positive(options: Any, *names: str) -> None:
    """Check that options are positive and finite, where they were given.

    Raises:
        ValueError: naming the option and the value got.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")


def not_negative(options: Any, *names: str) -> None:
    """Check that options are finite and not negative, where they were given.

    Raises:
        ValueError: naming the option and the value got.
    """
    for name in names:
        value = getattr(options, name)
        if value is not None and not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {value}")


def refuse_unless(holds: bool, where: str, options: Any, *names: str) -> None:
    """Refuse options that were given where they have no effect.

    Args:
        holds: whether they have an effect.
        where: what they cannot be used with, as ``"subset full"``.
        options: of the recipe.
        names: of options whose default, None, False or empty, means that they were not given.

    Raises:
        ValueError: naming the option, the choice, and the value got.
    """
    if holds:
        return
    for name in names:
        value = getattr(options, name)
        if value is not None and value is not False and value != ():
            shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
            raise ValueError(f"{name} cannot be used with {where}, got {shown}")
