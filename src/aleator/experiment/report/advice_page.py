"""The page of an advice: the answer, effects with intervals, what was tried and dropped, the time it took, curves."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from aleator.experiment.comparison.progress import clock
from aleator.experiment.protocol import Headline
from aleator.experiment.report import figures, words
from aleator.experiment.report.comparison_page import flat
from aleator.experiment.report.curves import learning_curve
from aleator.experiment.report.figures import Figure, Look
from aleator.experiment.report.read import read_log

Rows = list[list[str]]


def advice_page(folder: Path, document: Mapping[str, Any]) -> dict[str, Any]:
    """Return everything that advice.html.j2 shows."""
    if "task" not in document:
        raise ValueError(f"{folder} holds advice that was interrupted before the task was measured: go on with it")
    headline = Headline(**document["task"]["headline"])
    metric = headline.name
    told = document.get("described", {})
    look = {name: Look(index) for index, name in enumerate(told)}
    effects = document.get("effects", [])
    plots: dict[str, Figure] = {}
    if effects:
        plots["effects"] = _effects_figure(effects, metric)
    curves = _curves(folder, told, look, metric)
    if curves:
        plots["curves"] = figures.curves_figure(curves, metric, "validation", "seconds")
    done = bool(document["looks"]) and bool(document["looks"][-1]["done"])
    return {
        "title": f"{document['recipe'].rpartition('/')[2]}: what pays",
        "created": words.moment(str(document.get("created") or "")),
        "answer": document.get("answer", []),
        "finished": done,
        "look": look,
        "metric": words.title(metric),
        "effects_head": ["Gain", "Interval", "Seeds", "Test examples", "Says"],
        "effects": _effect_rows(effects, metric),
        "looks": len(document["looks"]),
        "described_head": [
            words.axis(metric, "test"),
            words.axis(metric, "validation"),
            "Steps",
            "Seconds of a run",
            "Peak memory",
            "Reached the baseline’s validation mean",
            "Validation at equal steps, and the baseline’s",
        ],
        "described": [_described_row(name, one, metric) for name, one in told.items()],
        "arms_head": ["What became of it", "Milliseconds a step", "Steps of equal time", "Peak memory", "Trials"],
        "arms": [_arm_row(name, entry, document, metric) for name, entry in document["arms"].items()],
        "pairs": [
            [one["name"], str(one.get("why") or words.with_unit(metric, one.get("validation")))]
            for one in document.get("pairs", {}).get("tried", [])
        ],
        "trials_head": ["Settings", *(f"{rung['share']:.0%} of the length" for rung in document["rungs"])],
        "trials": _trials(document, metric),
        "task": _task(document, metric),
        "time": _time(document),
        "drawn": list(plots),
        "figures": plots,
        "command": shlex.join(document.get("command") or []),
        "environment": flat(document["environment"]),
    }


def _effects_figure(effects: Sequence[Mapping[str, Any]], metric: str) -> Figure:
    shown = [
        (str(one["arm"]), float(one["gain"]), tuple(one["interval"]) if one["interval"] else None, bool(one["claim"]))
        for one in effects
    ]
    return figures.differences_figure(shown, metric, "Gain")


def _curves(
    folder: Path, told: Mapping[str, Any], look: Mapping[str, Look], metric: str
) -> list[tuple[str, Look, Any]]:
    found = []
    for name, one in told.items():
        logs = [read_log(folder / place) for place in one["folders"] if (folder / place / "metrics.jsonl").is_file()]
        curve = learning_curve(logs, "validation", metric)
        if curve is not None:
            found.append((name, look[name], curve))
    return found


def _effect_rows(effects: Sequence[Mapping[str, Any]], metric: str) -> list[list[str]]:
    places = words.column_decimals(metric, ((one["gain"], one["interval"]) for one in effects))
    rows = []
    for one in effects:
        said = {"better": "better", "worse": "worse"}.get(one["claim"], "no difference found")
        interval = tuple(one["interval"]) if one["interval"] else None
        rows.append(
            [
                one["arm"],
                words.difference(metric, one["gain"], places=places),
                words.difference_interval(metric, interval, places),
                str(one["seeds"]),
                "this test set only" if one["examples"] is None else words.number(one["examples"], 12),
                said,
            ]
        )
    return rows


def _described_row(name: str, one: Mapping[str, Any], metric: str) -> list[str]:
    if one["target"] is None or one["runs"] == 0:
        reached = words.NONE
    elif not one["reached"]:
        reached = f"not reached in {one['runs']} runs"
    else:
        steps = words.number(round(one["steps_to_target"]), 12)
        times = f"after {words.seconds(one['seconds_to_target'])} s, {steps} steps"
        reached = f"{one['reached']} of {one['runs']} runs, {times}"
    return [
        name,
        words.measured(metric, one["test"]),
        words.measured(metric, one["validation"]),
        words.number(one["steps"], 12),
        words.seconds(one["seconds"]),
        words.memory(one["memory"]),
        reached,
        _equal_steps(name, one, metric),
    ]


def _equal_steps(name: str, one: Mapping[str, Any], metric: str) -> str:
    if name == "baseline" or one.get("equal_steps") is None:  # older advice does not have it
        return words.NONE
    own, other = (words.measured(metric, one[f"{whose}_at_equal_steps"]) for whose in ("validation", "baseline"))
    return f"{own} and {other} after {words.number(one['equal_steps'], 12)} steps"


def _arm_row(name: str, entry: Mapping[str, Any], document: Mapping[str, Any], metric: str) -> list[str]:
    cost = entry["cost"] or {}
    trials = entry.get("trials", {})
    return [
        name,
        _fate(name, entry, document),
        words.number(1000 * cost["step"], 3) if cost else words.NONE,
        words.number(entry["steps"], 12) if cost else words.NONE,
        words.memory(cost["memory"]) if cost else words.NONE,
        str(len(trials)) if trials else words.NONE,
    ]


def _fate(name: str, entry: Mapping[str, Any], document: Mapping[str, Any]) -> str:
    if (why := document.get("failed", {}).get(name)) is not None:
        return f"failed: {why}"
    if name in document["confirmed"]:
        return "confirmed on fresh seeds"
    if entry["status"] == "chosen":
        return "what the others are compared with" if name == "baseline" else "tuned, and behind on validation data"
    return {
        "does not apply": f"does not apply: {entry['why']}",
        "failed": f"failed: {entry['why']}",
        "not tried": "not tried, for lack of time",
    }.get(entry["status"], "under way")


def _trials(document: Mapping[str, Any], metric: str) -> Rows:
    rows = []
    rungs = len(document["rungs"])
    for name, entry in document["arms"].items():
        for number, trial in entry.get("trials", {}).items():
            changes = ", ".join(f"{option}={value}" for option, value in trial["changes"].items() if value is not None)
            best = " (chosen)" if entry.get("best") == int(number) else ""
            cells = [
                words.measured(metric, rung["validation"]) if rung["validation"] is not None else "failed"
                for rung in trial["rungs"]
            ]
            rows.append([f"{name} {number}{best}", changes or "as given", *cells, *[""] * (rungs - len(cells))])
    return rows


def _task(document: Mapping[str, Any], metric: str) -> list[tuple[str, str]]:
    task, probe = document["task"], document["task"].get("probe") or {}
    facts = [
        ("Steps of a run, as given", words.number(task["steps"], 12)),
        ("Seconds of a run", words.seconds(task["seconds"])),
        ("Learning rate, as given", words.number(task["lr"])),
        ("Training examples", words.number(task["train_examples"], 12)),
        ("Validation examples", words.number(task["validation_examples"], 12)),
        ("Device", str(task["device"])),
    ]
    if task.get("noise") is not None:
        noise = f"about {words.difference(metric, task['noise'], False)}{words.difference_unit(metric)}"
        facts.append(("Standard error that so few validation examples leave", noise))
    if probe:
        facts += [
            (f"Largest stable learning rate after {probe['steps']} steps", words.number(probe["largest_stable_lr"], 3)),
            ("Gradient noise scale, in examples", words.number(probe["noise_scale"], 3)),
            ("Critical batch", words.number(probe["critical_batch"], 3)),
        ]
    return facts


def _time(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for number, look in enumerate(document["looks"], start=1):
        which = f"look {number}: " if len(document["looks"]) > 1 else ""
        rows += [(f"{which}{phase}", clock(seconds)) for phase, seconds in look["seconds"].items()]
        advising = max(0.0, look["spent"] - sum(look["seconds"].values()))
        rows.append((f"{which}everything else", clock(advising)))
        rows.append((f"{which}in all", f"{clock(look['spent'])} of {clock(60 * look['minutes'])}"))
    return rows
