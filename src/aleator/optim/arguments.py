"""Checks of an optimizer's options, with one message for each way of getting them wrong.

Options are checked per parameter group, so that a value given to one group alone is checked too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

Bounds = tuple[float, float]


def check_not_negative(options: Mapping[str, Any], *names: str) -> None:
    """Check finite numbers that may be zero; a learning rate may also be a tensor without dimensions.

    Raises:
        ValueError: naming the option and the value.
    """
    for name in names:
        value = options[name]
        if isinstance(value, Tensor):
            if value.ndim:
                raise ValueError(f"{name} must be a number or a tensor of shape (), got shape {tuple(value.shape)}")
            value = float(value)  # once, where the group is made, and not in a step
        if not (value >= 0 and math.isfinite(value)):
            raise ValueError(f"{name} must not be negative, got {value}")


def check_fraction(options: Mapping[str, Any], *names: str) -> None:
    """Check decay rates of running means, in [0, 1).

    Raises:
        ValueError: naming the option and the value.
    """
    for name in names:
        if not 0 <= options[name] < 1:
            raise ValueError(f"{name} must be in [0, 1), got {options[name]}")


def check_betas(options: Mapping[str, Any], number: int) -> None:
    """Check that ``betas`` are ``number`` decay rates of running means, in [0, 1).

    Raises:
        ValueError: naming the value.
    """
    betas = options["betas"]
    if not (isinstance(betas, (tuple, list)) and len(betas) == number and all(0 <= beta < 1 for beta in betas)):
        raise ValueError(f"betas must be {number} numbers in [0, 1), got {betas}")


def check_bounds(options: Mapping[str, Any], name: str) -> None:
    """Check a pair 0 ≤ low ≤ high, or None.

    Raises:
        ValueError: naming the option and the value.
    """
    value = options[name]
    if value is not None and not (len(value) == 2 and 0 <= value[0] <= value[1]):
        raise ValueError(f"{name} must be a pair (low, high) with 0 <= low <= high, got {value}")
