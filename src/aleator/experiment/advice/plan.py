"""What a time affords, once the task is measured: the words of ``--dry-run``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from aleator.experiment.advice.arms import BASELINE
from aleator.experiment.advice.measure import EVALUATIONS, LEAST_STEPS
from aleator.experiment.comparison.progress import clock
from aleator.stats.advice import hour


def seconds_of_runs(document: Mapping[str, Any], evaluations: int) -> Callable[[float], float]:
    """Return a function from a share of the full length to the seconds of a run of any arm, with its process."""
    task, entry = document["task"], document["arms"][BASELINE]
    cost = entry["cost"]

    def seconds(share: float) -> float:
        fixed = cost["building"] + cost["starting"] + (evaluations + 1) * cost["evaluation"]
        return float(task["process"] + fixed + share * entry["steps"] * cost["step"])

    return seconds


def affordable(document: Mapping[str, Any], minutes: float, slots: int) -> list[str]:
    """Say what a time affords, in a few lines."""
    task, entries = document["task"], document["arms"]
    names = [name for name, entry in entries.items() if entry["cost"] is not None]
    run = seconds_of_runs(document, 0)
    whole = 60 * minutes * slots
    full = seconds_of_runs(document, EVALUATIONS)(1.0)
    found = hour.choosing(hour.CHOOSING * whole, len(names), run, LEAST_STEPS / task["steps"], slots)
    carried = hour.confirming(hour.CONFIRMING * whole, len(names) - 1, full, workers=slots)
    lines = [
        f"a run: {task['steps']} steps, about {clock(full)}, {slots} at a time",
        f"arms: {len(names)} apply, the baseline among them ({', '.join(names)})",
    ]
    for name, entry in entries.items():
        if entry["cost"] is None:
            lines.append(f"  {name} does not: {entry['why']}")
    if found.arms:
        left = f"; no time for {', '.join(names[found.arms :])}" if found.arms < len(names) else ""
        rungs = ", then ".join(f"{rung.trials} of {rung.share:.0%} of the length" for rung in found.rungs)
        lines.append(f"choosing: trials of each arm: {rungs}{left}")
    if carried.arms and found.arms:
        lines.append(f"confirming: {carried.arms} arm{'s' * (carried.arms > 1)} on {carried.seeds} seeds")
    else:
        enough = minutes_needed(document, slots)
        lines.append(f"confirming: none; one arm on {hour.SEEDS_WANTED} seeds takes about {clock(60 * enough)} in all")
    return lines


def minutes_needed(document: Mapping[str, Any], slots: int) -> float:
    """Return how many minutes would be enough to confirm one arm."""
    run = seconds_of_runs(document, EVALUATIONS)(1.0)
    measuring: float = sum(look["seconds"].get("measuring", 0.0) for look in document["looks"])
    return measuring / 60 + hour.minutes_for_one(run, slots, 2 * hour.LEAST_TRIALS * seconds_of_runs(document, 0)(1.0))
