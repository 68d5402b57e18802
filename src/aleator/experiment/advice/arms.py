"""Arms and their trials: what is tried, with which settings.

An arm is a method with a few settings of its own options. Every arm has the same number of trials, the baseline
included. Trial 0 has the options as the user gave them and the method's first settings, its paper's. Trial i of every
arm has the same draw (u_i, w_i) in [0, 1)² of the settings that all share, as multiples of what the arm has by itself:

    lr · low · (high / low)^u_i,      weight_decay · 10^(2 w_i - 1)

Draws are a low-discrepancy sequence, so that few of them are spread evenly (M. Roberts, "The unreasonable effectiveness
of quasirandom sequences", 2018: multiples of 1/φ₂ and 1/φ₂² modulo 1, with φ₂³ = φ₂ + 1). An arm that shares the
baseline's learning rate shares its range, which is wide, because that rate may be far off; one with a usual rate of its
own begins there, and is tried up to ten times below and above.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aleator.random import Streams

BASELINE = "baseline"
OWN = "your own settings"
Range = tuple[float, float]
WIDE: Range = (1 / 32, 100.0)
"""How far from its value a learning rate that was given is tried where nothing is known of it. Rates are more often
chosen too small than too large, because those that are too large diverge."""
NARROW: Range = (1 / 10, 10.0)
DECAY = 10.0
SHARED = ("lr", "weight_decay")
"""Settings that trials of one number share."""
_PLASTIC = 1.32471795724474602596


@dataclass(frozen=True)
class Arm:
    """A method and the settings of its options that are worth a trial.

    Attributes:
        name: of the method.
        settings: changes of the recipe's options, the paper's first.
    """

    name: str
    settings: tuple[Mapping[str, Any], ...] = ({},)


@dataclass(frozen=True)
class Trial:
    """One choice of settings of one arm.

    Attributes:
        arm: its name.
        number: trials of the same number share their draw.
        changes: of the options that the user gave.
    """

    arm: str
    number: int
    changes: Mapping[str, Any]


def arms_of(arms: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[Arm]:
    """Return the baseline, then an arm for every method that has settings to try."""
    named = [Arm(name, tuple(settings)) for name, settings in arms.items() if settings]
    if taken := [arm.name for arm in named if arm.name in (BASELINE, OWN)]:
        raise ValueError(f"an arm must not be called {taken[0]!r}: the options as they were given are")
    return [Arm(BASELINE), *named]


def shared_draws(count: int, streams: Streams) -> list[tuple[float, float]]:
    """Return a point of the unit square for each trial; that of trial 0 is not used.

    Args:
        count: of trials.
        streams: where the sequence begins is drawn from the stream ``trials``.
    """
    start = streams.numpy("trials").random(2)
    return [
        (float((start[0] + index / _PLASTIC) % 1.0), float((start[1] + index / _PLASTIC**2) % 1.0))
        for index in range(count)
    ]


def rate_of(recipe: Any) -> float | None:
    """Return a recipe's learning rate: the one in use, where the recipe says it, else its option."""
    found = getattr(recipe, "peak_lr", None) or getattr(recipe, "lr", None)
    return float(found) if found else None


def range_of_rates(rate: float | None, largest_stable: float | None) -> Range:
    """Return between which multiples of a learning rate trials are drawn.

    Args:
        rate: of the baseline.
        largest_stable: what the curvature says, if it was asked: trials are in the two decades below, and no further
            from there than the rate that was given.
    """
    if rate is None or largest_stable is None:
        return WIDE
    return min(1.0, largest_stable / 100 / rate), max(1.0, largest_stable / rate)


def trials_of(recipe: Any, arm: Arm, draws: Sequence[tuple[float, float]], wide: Range = WIDE) -> list[Trial]:
    """Return the trials of an arm: its own settings in turn, with each draw of the shared ones.

    A shared setting that the method has no use for, as the rate of one that finds its own, is left out.

    Raises:
        ValueError: if the method's own settings do not go with the recipe's options.
    """
    trials = []
    for number, (u, w) in enumerate(draws):
        changes = dict(arm.settings[number % len(arm.settings)])
        changed = dataclasses.replace(recipe, **changes)
        if number:
            rate = rate_of(changed)
            low, high = wide if rate == rate_of(recipe) else NARROW
            usual = {"lr": rate, "weight_decay": getattr(changed, "weight_decay", None)}
            factors = {"lr": low * (high / low) ** u, "weight_decay": DECAY ** (2 * w - 1)}
            for field, factor in factors.items():
                if not usual[field]:
                    continue
                value = _three_digits(usual[field] * factor)
                try:
                    changed = dataclasses.replace(changed, **{field: value})
                except ValueError:
                    continue
                changes[field] = value
        trials.append(Trial(arm.name, number, changes))
    return trials


def combined(first: Trial, second: Trial, name: str) -> Trial:
    """Return the settings of two trials together; shared settings are those of the first, which is the better one.

    Raises:
        ValueError: if the two set one option to different values, which only one of them can have.
    """
    for field in first.changes.keys() & second.changes.keys() - set(SHARED):
        if first.changes[field] != second.changes[field]:
            raise ValueError(f"{first.arm} and {second.arm} both set {field}")
    return Trial(name, 0, {**second.changes, **first.changes})


def _three_digits(value: float) -> float:
    return float(f"{value:.3g}")
