"""The content of a certificate, and the checks that every bound shares.

A certificate is a bound on the mean of new examples, computed from n examples that were held out. It is wrong with
probability at most δ. Where m models were looked at on the same examples and any of them may be the one that is kept,
each bound takes δ/m (the union bound); a two-sided bound takes δ/2 on each side.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, SupportsIndex, TypeAlias

Side: TypeAlias = Literal["lower", "upper", "both"]
Bound: TypeAlias = float | tuple[float, float]

SIDES: tuple[Side, ...] = ("lower", "upper", "both")

INDEPENDENT = "the examples are independent draws from where new ones come from"


@dataclass(frozen=True)
class Certificate:
    """A bound on a mean over new examples, with what it rests on.

    Attributes:
        bound: the lower or upper bound, or (low, high) where both sides were asked for.
        estimate: the mean on the examples that were counted.
        method: how the bound was computed.
        side: which side it bounds.
        delta: probability that it is wrong, over the draw of the examples, all candidates and sides together.
        candidates: number of models among which one may have been chosen on these examples.
        n: number of examples.
        counted: what was counted, in words.
        assumptions: what must hold, in words.
    """

    bound: Bound
    estimate: float
    method: str
    side: Side
    delta: float
    candidates: int
    n: int
    counted: str
    assumptions: str


def checked_delta(delta: float) -> float:
    """Return δ as a float.

    Raises:
        ValueError: if it is not in (0, 1).
    """
    if not 0 < delta < 1:
        raise ValueError(f"delta must be in (0, 1), got {delta}")
    return float(delta)


def checked_count(name: str, value: SupportsIndex, low: int, high: int | None = None) -> int:
    """Return a whole number in [low, high].

    Raises:
        ValueError: if it is not whole, such as an accuracy where a count is asked for, or out of range.
    """
    accepted = f"a whole number of at least {low}" if high is None else f"a whole number in [{low}, {high}]"
    try:
        count = operator.index(value)
    except TypeError:
        raise ValueError(f"{name} must be {accepted}, got {value!r}") from None
    if count < low or (high is not None and count > high):
        raise ValueError(f"{name} must be {accepted}, got {count}")
    return count


def checked_candidates(candidates: SupportsIndex, used_for_choosing: bool) -> int:
    """Return the number of models that the bound has to hold for at once.

    Raises:
        ValueError: if it is not a whole number of at least 1, or the set was used for choosing and it says among one.
    """
    count = checked_count("candidates", candidates, 1)
    if used_for_choosing and count == 1:
        raise ValueError(
            "candidates must be the number of models that were compared on a set used for choosing or early stopping "
            "(at least 2), got 1; otherwise take examples that nothing was chosen on"
        )
    return count


def assumptions(candidates: int) -> str:
    """Return the assumptions in words."""
    if candidates == 1:
        return f"{INDEPENDENT}, and nothing was chosen or fitted on them"
    return f"{INDEPENDENT}, and nothing but one of {candidates} models was chosen on them"


def sided(lower: Callable[[float], float], upper: Callable[[float], float], side: Side, tail: float) -> Bound:
    """Return one end, or both, each with half of the probability.

    Args:
        lower: the lower bound that is wrong with a given probability.
        upper: the upper one.
        side: which is asked for.
        tail: probability that the bound may be wrong.

    Raises:
        ValueError: if the side is none of the three.
    """
    if side not in SIDES:
        raise ValueError(f"side must be one of {', '.join(SIDES)}, got {side!r}")
    if side == "both":
        return lower(tail / 2), upper(tail / 2)
    return lower(tail) if side == "lower" else upper(tail)
