"""The content of a comparison's page: tables as rows of text, figures, and the sentences around them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from aleator.experiment.protocol import Headline
from aleator.experiment.report import figures, words
from aleator.experiment.report.certificate import certificate
from aleator.experiment.report.curves import Curve, learning_curve
from aleator.experiment.report.figures import Look
from aleator.experiment.report.read import Comparison, Pair, Run, Summary, Variant

# A training loss logged at every tenth step of a long run would make the file large and the line a smear.
TRAIN_POINTS = 400


def comparison_page(comparison: Comparison) -> dict[str, Any]:
    """Return everything that comparison.html.j2 shows."""
    headline = comparison.headline or Headline("")  # nothing has finished: there is no number to name
    metric = headline.name
    look = figures.looks(comparison.variants)
    plots: dict[str, Any] = {}
    sizes = sorted(comparison.sizes, key=lambda size: -1 if size is None else -size)
    sections = [_size_section(comparison, size, look, metric, plots) for size in sizes]
    if len(sizes) > 1:
        plots["sizes"] = figures.sizes_figure(comparison, look, metric)
    runs = [run for variant in comparison.variants for run in variant.runs]
    variants, seeds = words.count(len(look), "variant"), words.count(len(comparison.seeds), "seed")
    return {
        "title": f"{comparison.recipe}: {variants}, {seeds}",
        "created": words.moment(comparison.created),
        "metric": words.title(metric),
        "points": words.difference_unit(metric).strip(),
        "direction": "higher" if headline.direction == "max" else "lower",
        "look": look,
        "sections": sections,
        "several_sizes": len(sizes) > 1,
        "multiplicity": words.multiplicity(comparison.pairs),
        "population": words.population(comparison.pairs),
        "new_data": any(pair.new_data is not None for pair in comparison.pairs),
        "forecasts": _forecasts(comparison, look, metric),
        "tune": comparison.tune,
        "incomplete": _incomplete(comparison, runs),
        "certificate": certificate(comparison),
        "variants_head": _variants_head(comparison, metric),
        "variants": [_variant_row(comparison, variant, look, metric) for variant in comparison.variants],
        "trials": _trials(comparison, metric),
        "other_metrics": _other_metrics(comparison, metric),
        "runs_head": _runs_head(comparison, runs, metric),
        "runs": [_run_row(comparison, variant, run, metric) for variant in comparison.variants for run in variant.runs],
        "failures": [
            {
                "variant": failure.variant,
                "of": failure.of,
                "seed": failure.seed,
                "error": failure.error,
                "log": link(failure.log),
            }
            for failure in comparison.failures
        ],
        "command": shlex.join(comparison.command),
        "environment": flat(comparison.environment),
        "figures": plots,
    }


def link(path: str | None) -> str | None:
    """A relative path as an address that can only be a relative path: its colons are quoted too."""
    return None if path is None else quote(path)


def text(value: Any) -> str:
    """An option's value as it would be typed."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def flat(tree: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested names and values as rows: ``{"versions": {"torch": "2.13"}}`` → ``[("versions torch", "2.13")]``."""
    rows: list[tuple[str, str]] = []
    for name, value in tree.items():
        rows += flat(value, f"{prefix}{name} ") if isinstance(value, dict) else [(f"{prefix}{name}", text(value))]
    return rows


def _size_section(
    comparison: Comparison, size: int | None, look: dict[str, Look], metric: str, plots: dict[str, Any]
) -> dict[str, Any]:
    """The content of the page for one training size; its figures are added to ``plots``."""
    variants, pairs = comparison.at(size), comparison.pairs_at(size)
    curves = _curves(variants, look, "validation", metric)
    losses = _curves(variants, look, "train", "loss", TRAIN_POINTS)
    at = "all" if size is None else str(size)
    name = "" if size is None else f" with {words.count(size, 'training example')}"

    def show(kind: str, heading: str, figure: figures.Figure, description: str) -> dict[str, str]:
        plots[f"{kind}-{at}"] = figure
        return {"id": f"{kind}-{at}", "heading": heading, "description": description}

    headline = paired = None
    learning = []
    if any(metric in variant.summary for variant in variants):
        means = [
            f"{variant.label} {words.with_unit(metric, variant.summary[metric].mean)}"
            for variant in variants
            if metric in variant.summary
        ]
        figure = figures.headline_figure([v for v in variants if metric in v.summary], look, metric)
        heading = f"Test {words.title(metric)}"
        headline = show("headline", heading, figure, f"Mean test {words.title(metric)}{name}: {'; '.join(means)}.")
    if curves:
        last = "; ".join(f"{label} {words.with_unit(metric, curve.mean[-1])}" for label, _, curve in curves)
        ends = f"At the last evaluation: {last}."
        what = f"Validation {words.title(metric)}{name}"
        for against, axis in (("steps", "training steps"), ("seconds", "training time")):
            figure = figures.curves_figure(curves, metric, "validation", against)  # type: ignore[arg-type]
            description = f"{what} against {axis}, a line for each variant. {ends}"
            learning.append(show(against, words.capital(f"{words.title(metric)} against {axis}"), figure, description))
    if losses:
        figure = figures.curves_figure(losses, "loss", "training", "steps", bands=False, markers=False)
        description = f"Training loss{name} against training steps, a line for each variant."
        learning.append(show("loss", "Training loss", figure, description))
    if pairs:
        differences = "; ".join(f"{pair.a} minus {pair.b} {words.difference(metric, pair.mean)}" for pair in pairs)
        figure = figures.pairs_figure(pairs, metric)
        what = f"Paired differences in test {words.title(metric)}{name}"
        paired = show("pairs", "Paired differences", figure, f"{what}: {differences}.")
    places = words.column_decimals(metric, ((pair.mean, pair.interval) for pair in pairs))
    return {
        "size": None if size is None else words.number(size, 12),
        "verdict": words.verdict(comparison, size),
        "headline": headline,
        "paired": paired,
        "curves": learning,
        "losses": bool(losses),
        "bands": _bands(curves),
        "targets": _targets(variants, look, metric),
        "pairs": [
            {
                "a": pair.a,
                "b": pair.b,
                "mean": words.difference(metric, pair.mean, places=places),
                "interval": words.difference_interval(metric, pair.interval, places),
                "p": words.p_value(pair.p_value),
                "holm": words.p_value(pair.p_holm),
                "detectable": words.detectable(metric, pair.smallest_detectable, places),
                "n": pair.n,
                "reading": _reading(pair),
                "strong": pair.reading == "excludes zero",
                "new_data": words.difference_interval(metric, pair.new_data, places),
            }
            for pair in pairs
        ],
    }


def _reading(pair: Pair) -> str:
    """What the interval says about zero, or why there is none."""
    if pair.interval is not None:
        return pair.reading
    if pair.n == 1:
        return "no interval: one seed"
    return "equal on every seed" if pair.mean == 0 else "the same difference on every seed"


def _curves(
    variants: Sequence[Variant], look: dict[str, Look], split: str, metric: str, points: int | None = None
) -> list[tuple[str, Look, Curve]]:
    found = []
    for variant in variants:
        curve = learning_curve([run.log for run in variant.finished], split, metric, points)
        if curve is not None:
            found.append((variant.label, look[variant.label], curve))
    return found


def _bands(curves: Sequence[tuple[str, Look, Curve]]) -> str:
    """State what the bands are, variant by variant where they differ."""
    meanings = {
        "t-interval": f"the band is the 95{words.THIN}% t-interval of the mean over seeds",
        "range": "the band goes from the lower to the higher of two seeds, which are too few for an interval",
        "none": "there is no band, because there is one seed",
    }
    labels: dict[str, list[str]] = {}
    for label, _, curve in curves:
        labels.setdefault(curve.band, []).append(f"“{label}”")
    if len(labels) <= 1:
        return "".join(f"{words.capital(meanings[kind])}." for kind in labels)
    parts = [f"for {words.listed(names)} {meanings[kind]}" for kind, names in labels.items()]
    return words.capital("; ".join(parts)) + "."


def _incomplete(comparison: Comparison, runs: Sequence[Run]) -> str:
    """Say how many runs are not there, or nothing."""
    if comparison.finished == comparison.planned:
        return ""
    interrupted = sum(run.status == "interrupted" for run in runs)
    failed = len(comparison.failures) - interrupted
    missing = comparison.planned - comparison.finished - len(comparison.failures)
    parts = [f"{failed} failed"] if failed else []
    parts += [f"{interrupted} {'was' if interrupted == 1 else 'were'} interrupted"] if interrupted else []
    parts += [f"{missing} {'is' if missing == 1 else 'are'} missing"] if missing > 0 else []
    finished = f"{comparison.finished} of {words.count(comparison.planned, 'run')} finished"
    return f"{finished}: {words.listed(parts)}. Every number here is of finished runs only."


def _variants_head(comparison: Comparison, metric: str) -> list[str]:
    head = ["Changed options"]
    head += ["Training examples"] if len(comparison.sizes) > 1 else []
    head += ["Tuned"] if comparison.tune else []
    head += [words.axis(metric, "test"), f"95{words.THIN}% interval", "Seeds", "Steps", "Examples seen"]
    head += [f"Training time,{words.THIN}s", f"Wall time,{words.THIN}s", "Peak memory"]
    return head


def _variant_row(comparison: Comparison, variant: Variant, look: dict[str, Look], metric: str) -> dict[str, Any]:
    summary = variant.summary.get(metric)
    finished = variant.finished
    done, asked = len(finished), len(comparison.seeds)
    memory = [run.peak_memory_bytes for run in finished if run.peak_memory_bytes is not None]
    cells = _size_cell(comparison, variant)
    cells += [", ".join(f"{name}={text(value)}" for name, value in variant.tuned.items())] if comparison.tune else []
    cells += [
        words.measured(metric, summary.mean) if summary else words.NONE,
        _interval_cell(metric, summary),
        str(done) if done == asked else f"{done} of {asked}",
        _whole([run.steps for run in finished]),
        _whole([run.examples for run in finished]),
        words.seconds(_mean([run.seconds.get("train") for run in finished])),
        words.seconds(_mean([run.seconds.get("total") for run in finished])),
        words.memory(max(memory) if memory else None),
    ]
    return {
        "label": variant.label,
        "look": look[variant.label],
        "changed": [f"{name}={text(value)}" for name, value in variant.changed.items()],
        "cells": cells,
    }


def _interval_cell(metric: str, summary: Summary | None) -> str:
    """The interval over seeds, or why there is none."""
    if summary is None or summary.interval is not None:
        return words.interval(metric, summary.interval if summary else None)
    return "none: one seed" if summary.n == 1 else "none: seeds are equal"


def _size_cell(comparison: Comparison, variant: Variant) -> list[str]:
    """The training size, where there are several."""
    if len(comparison.sizes) == 1:
        return []
    return ["all" if variant.size is None else words.number(variant.size, 12)]


def _mean(values: Sequence[float | None]) -> float | None:
    found = [value for value in values if value is not None]
    return sum(found) / len(found) if found else None


def _whole(values: Sequence[float | None]) -> str:
    mean = _mean(values)
    return words.number(None if mean is None else round(mean), 12)


def _targets(variants: Sequence[Variant], look: dict[str, Look], metric: str) -> dict[str, Any] | None:
    """Steps, examples and training time to the target, means over the seeds that reached it; None without a target."""
    targets = {variant.label: variant.target for variant in variants if variant.target}
    if not targets:
        return None
    rows = []
    for label, target in targets.items():
        reached = sum(step is not None for step in target.steps)
        counts = [_whole(target.steps), _whole(target.examples)]
        cells = [f"{reached} of {len(target.steps)}", *counts, words.seconds(_mean(target.seconds))]
        rows.append({"label": label, "look": look[label], "cells": cells})
    target = next(iter(targets.values()))
    baseline = f"It is the mean that “{variants[0].label}” has at the end." if target.source == "baseline" else ""
    goal = f"{target.split} {words.title(metric)} of {words.with_unit(metric, target.target)}"
    return {"goal": goal, "source": baseline, "rows": rows}


def _trials(comparison: Comparison, metric: str) -> dict[str, Any] | None:
    """What each variant reached on validation with each value of the tuned field; None where nothing was tuned."""
    rows = []
    for variant in comparison.variants:
        for trial in variant.trials:
            tuned = ", ".join(f"{name}={text(value)}" for name, value in trial.tuned.items())
            cells = [*_size_cell(comparison, variant), tuned, words.measured(metric, trial.validation), str(trial.n)]
            chosen = trial.tuned == variant.tuned
            rows.append({"label": variant.label, "chosen": chosen, "cells": [*cells, "yes" if chosen else ""]})
    size = ["Training examples"] if len(comparison.sizes) > 1 else []
    head = [*size, "Value", words.axis(metric, "validation"), "Seeds", "Chosen"]
    return {"head": head, "rows": rows} if rows else None


def _forecasts(comparison: Comparison, look: dict[str, Look], metric: str) -> dict[str, Any] | None:
    """What the sizes forecast, or None where there are too few."""
    if not comparison.forecasts:
        return None
    head = words.forecast_head(metric, comparison.forecasts)
    rows = [
        {
            "label": found.name,
            "look": look[found.name],
            "cells": words.forecast_cells(metric, found, with_target=len(head) > 3),
            "note": words.trend_note(found),
        }
        for found in comparison.forecasts
    ]
    first = comparison.forecasts[0]
    horizon = {
        "full": "The whole training set has",
        "twice": "Twice the largest size is",
        "given": "The horizon asked for is",
    }[first.source]
    return {
        "head": [words.capital(name) for name in head],
        "rows": rows,
        "sizes": len(first.sizes),
        "horizon": f"{horizon} {words.count(first.horizon, 'example')}.",
    }


def _other_metrics(comparison: Comparison, metric: str) -> dict[str, Any] | None:
    """The means of every other test metric, or None when there is none."""
    names = dict.fromkeys(name for v in comparison.variants for name in v.summary if name != metric)
    if not names:
        return None
    rows = []
    for variant in comparison.variants:
        cells = []
        for name in names:
            summary = variant.summary.get(name)
            cells += [words.measured(name, summary.mean if summary else None), _interval_cell(name, summary)]
        size = f" ({words.number(variant.size, 12)})" if len(comparison.sizes) > 1 and variant.size is not None else ""
        rows.append({"label": variant.label + size, "cells": cells})
    head = [column for name in names for column in (words.axis(name, "test"), f"95{words.THIN}% interval")]
    return {"head": head, "rows": rows}


def _runs_head(comparison: Comparison, runs: Sequence[Run], metric: str) -> list[str]:
    size = ["Training examples"] if len(comparison.sizes) > 1 else []
    head = ["Seed", *size, "Status", words.axis(metric, "test")]
    if any(run.accuracy_interval for run in runs):
        head += [f"Exact 95{words.THIN}% interval", "Test examples"]
    return [*head, words.axis(metric, "validation"), "Steps", f"Training time,{words.THIN}s", "Peak memory"]


def _run_row(comparison: Comparison, variant: Variant, run: Run, metric: str) -> dict[str, Any]:
    cells = [str(run.seed), *_size_cell(comparison, variant), run.status]
    cells.append(words.measured(metric, run.test.get(metric)))
    if any(other.accuracy_interval for v in comparison.variants for other in v.runs):
        cells += [words.interval("accuracy", run.accuracy_interval), words.number(run.test.get("examples"), 12)]
    cells += [
        words.measured(metric, run.validation.get(metric)),
        words.number(run.steps, 12),
        words.seconds(run.seconds.get("train")),
        words.memory(run.peak_memory_bytes),
    ]
    return {"label": variant.label, "link": link(run.folder), "cells": cells}
