"""The content of a run's page: its result, its curves, its config. It is one seed, and the page says so."""

from __future__ import annotations

import base64
import shlex
from typing import Any, Literal

from aleator.experiment.report import figures, words
from aleator.experiment.report.comparison_page import TRAIN_POINTS, flat, text
from aleator.experiment.report.curves import learning_curve
from aleator.experiment.report.figures import Look
from aleator.experiment.report.read import SingleRun
from aleator.experiment.shares import is_accuracy
from aleator.stats import clopper_pearson


def run_page(run: SingleRun) -> dict[str, Any]:
    """Return everything that run.html.j2 shows."""
    config, result = run.config, run.result
    circumstances = ("aleator_version", "versions", "machine", "threads", "identity")
    return {
        "title": f"{config['recipe']}, seed {config.get('seed')}",
        "created": words.moment(str(config.get("created") or "")),
        "verdict": _verdict(run),
        "finished": result is not None,
        "facts": _facts(result) if result is not None else [],
        "results": _results(result) if result is not None else None,
        **_shown(run),
        "options": [(name, text(value)) for name, value in (config.get("options") or {}).items()],
        "command": shlex.join(config.get("command") or []),
        "environment": flat({name: config[name] for name in circumstances if name in config}),
    }


def _verdict(run: SingleRun) -> str:
    result = run.result
    if result is None:
        last = run.log[-1] if run.log else None
        where = f"; the last line of its log is of step {words.number(last.step, 12)}" if last else ""
        return f"This run has not finished{where}. There is no test result yet."
    metric = result["headline"]["name"]
    steps = words.count(int(result["steps"]), "step")
    value = result["test"].get(metric)
    if value is None:
        return f"The run finished after {steps} without a finite test {words.title(metric)}."
    sentence = f"After {steps} the test {words.title(metric)} is {words.with_unit(metric, value)}"
    if exact := _exact(metric, result["test"]):
        examples = words.count(int(result["test"]["examples"]), "example")
        sentence += f" (exact 95{words.THIN}% interval {words.interval(metric, exact)}{words.THIN}%, {examples})"
    return sentence + "; this is one seed, and says nothing about how much another would differ."


def _exact(metric: str, metrics: dict[str, Any]) -> tuple[float, float] | None:
    """The Clopper–Pearson interval of an accuracy that came with the number of examples it was measured on."""
    n, value = metrics.get("examples"), metrics.get(metric)
    if not is_accuracy(metric) or not n or value is None or not 0 <= value <= 1:
        return None
    return clopper_pearson(round(value * n), round(n))


def _facts(result: dict[str, Any]) -> list[tuple[str, str]]:
    seconds = result.get("seconds") or {}
    facts = [
        ("Steps", words.number(result.get("steps"), 12)),
        ("Examples seen", words.number(result.get("examples"), 12)),
        *((f"Seconds, {part}", words.seconds(value)) for part, value in seconds.items()),
        ("Peak memory", words.memory(result.get("peak_memory_bytes"))),
        ("Device", str(result.get("device") or words.NONE)),
        ("Skipped steps", words.number(result.get("skipped_steps"), 12)),
    ]
    return [*facts, ("Stopped early", str(result["stopped"]))] if result.get("stopped") else facts


def _results(result: dict[str, Any]) -> dict[str, Any]:
    """A row for each metric: on validation at the end, at its best, and on test."""
    best = result.get("best_validation") or {}
    validation, test, top = result["validation"], result["test"], best.get("metrics") or {}
    names = [name for name in dict.fromkeys([*test, *validation]) if name != "examples"]
    head = ["Test", f"Exact 95{words.THIN}% interval", "Validation, at the end"]
    if top:
        head.append(f"Validation, at step {words.number(best.get('step'), 12)} (best)")
    rows = []
    for name in names:
        cells = [words.measured(name, test.get(name)), words.interval(name, _exact(name, test))]
        cells.append(words.measured(name, validation.get(name)))
        cells += [words.measured(name, top.get(name))] if top else []
        rows.append({"label": words.axis(name, ""), "cells": cells})
    return {"head": head, "rows": rows}


def _shown(run: SingleRun) -> dict[str, Any]:
    """The curves, and what the task itself has to show, with all figures that they need."""
    page = _plots(run)
    exhibits = []
    for number, exhibit in enumerate(run.exhibits):
        shown: dict[str, Any] = {"id": f"exhibit-{number}", "moves": (exhibit.file or "").endswith(".gif")}
        shown |= {"heading": exhibit.heading, "description": exhibit.description}
        if exhibit.plot is not None:
            page["figures"][shown["id"]] = figures.exhibit_figure(exhibit.plot)
        if exhibit.svg is not None:
            shown["image"] = _embedded("svg+xml", exhibit.svg.encode())
        if exhibit.picture is not None and exhibit.file is not None:
            shown["image"] = _embedded(exhibit.file.rpartition(".")[2], exhibit.picture)
        exhibits.append(shown)
    return page | {"exhibits": exhibits}


def _embedded(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def _plots(run: SingleRun) -> dict[str, Any]:
    """A plot against steps for every metric, and one against time for the headline."""
    headline = run.result["headline"]["name"] if run.result else None
    logged = dict.fromkeys(name for line in run.log for name in line.metrics if name != "examples")
    figures_of: dict[str, Any] = {}
    plots = []
    for number, name in enumerate(sorted(logged, key=lambda name: name != headline)):
        curves = []
        for index, (split, label) in enumerate((("validation", "validation"), ("train", "training"))):
            curve = learning_curve([run.log], split, name, TRAIN_POINTS)
            if curve is not None:
                curves.append((label, Look(index), curve))
        if not curves:
            continue
        labels = words.listed([label for label, _, _ in curves])
        shown = words.capital(f"{labels} {words.title(name)}")
        split = labels if len(curves) == 1 else ""
        markers = [label for label, _, _ in curves] == ["validation"]
        against: list[Literal["steps", "seconds"]] = ["steps", "seconds"] if name == headline else ["steps"]
        for axis in against:
            key = f"metric-{number}-{axis}"
            figures_of[key] = figures.curves_figure(curves, name, split, axis, bands=False, markers=markers)
            heading = shown + (", against time" if axis == "seconds" else "")
            description = f"{shown} against training {'time' if axis == 'seconds' else 'steps'}."
            plots.append({"id": key, "heading": heading, "description": description, "curves": curves})
    return {"plots": plots, "figures": figures_of}
