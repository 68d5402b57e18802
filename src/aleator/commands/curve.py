"""``aleator curve fit FILE --horizon N --tau T``: what a learning curve will come to, from a table of scores."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aleator.commands import verbs
from aleator.commands.table import write_lines, write_table

if TYPE_CHECKING:
    from aleator.stats import LearningTrace

_WARNINGS = {
    "not_increasing": "the scores do not get better with more data: there is no forecast to believe",
    "no_asymptote": "the curve looks logarithmic: its asymptote means nothing, and forecasts far ahead little",
    "flat": "all scores are equal",
    "impossible": "the trend leads beyond what a score can be: there is no forecast that far",
    "backbone_not_monotone": "the asymptote became more hopeful again after the prediction level, by up to",
}


@dataclass(frozen=True)
class Fit:
    """Forecast scores at a larger size."""

    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """A table of sizes and scores: CSV or the like, with a line for each score, or a column for each system."""
    horizon: float
    """The size to forecast for."""
    tau: float
    """The gain that is not worth more data, in the unit of the score."""
    target: float | None = None
    """A score: how much data does it need?"""
    plot: Path | None = None
    """An HTML page to write, with the picture and the tables."""
    lower_is_better: bool = False
    """Whether scores are losses or error rates."""
    nu: float = 2e-5
    """The slope of the asymptote that counts as calm, per unit of size; the default suits words."""
    lookahead: int = 5
    """For how many more levels it must stay calm."""
    seed: int = 0
    """Seed of the bands."""

    def __post_init__(self) -> None:
        if not self.tau > 0:
            raise ValueError(f"tau must be positive, got {self.tau}")
        if self.plot is not None and self.plot.suffix.lower() not in (".html", ".htm"):
            raise ValueError(f"plot must end in .html (the picture is a page that opens from disk), got {self.plot}")
        if self.target is not None and not self.lower_is_better and not 0 <= self.target <= 1:
            raise ValueError(f"target must be in [0, 1], got {self.target}; divide percentages by 100")
        if self.target is not None and not 0 <= self.target < float("inf"):
            raise ValueError(f"target must be at least 0 and finite, got {self.target}")
        if self.seed < 0:
            raise ValueError(f"seed must be at least 0, got {self.seed}")


VERBS: dict[str, type[Any]] = {"fit": Fit}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return verbs.options(VERBS)


def main(args: Sequence[str]) -> int:
    """Carry out the verb and return its exit code."""
    asked = verbs.chosen("curve", VERBS, args, "Forecasts of learning curves.")
    if asked is None:
        return 0
    return fit(asked[1])


def fit(asked: Fit) -> int:
    """Write the tables, and the page if one is wanted.

    Raises:
        ValueError: if the file or the horizon will not do.
    """
    from aleator.commands.score_table import read_scores

    read = read_scores(asked.file, higher_is_better=not asked.lower_is_better)
    curves = read.curves
    largest = max(curve.sizes[-1] for curve in curves.values())
    if not largest <= asked.horizon < float("inf"):
        raise ValueError(f"--horizon must be at least the largest size {largest:g}, got {asked.horizon:g}")

    import numpy as np

    from aleator.stats import LearningTrace

    traces: dict[str, LearningTrace] = {}
    for number, (system, curve) in enumerate(curves.items()):
        traces[system or "value"] = trace = LearningTrace(
            nu=asked.nu,
            lookahead=asked.lookahead,
            horizon=asked.horizon,
            higher_is_better=not asked.lower_is_better,
            generator=np.random.default_rng([asked.seed, number]),
        )
        trace.extend(curve.sizes, curve.scores)
    write_lines(f"read {read.understood}")
    columns = [_facts(trace, asked) for trace in traces.values()]
    facts = [(name, *(column[name] for column in columns)) for name in columns[0]]
    pairs = [_comparison(*pair, asked.horizon) for pair in itertools.combinations(traces.items(), 2)]
    notes = [
        f"{system}: {note}" if len(traces) > 1 else note for system, trace in traces.items() for note in _notes(trace)
    ]
    write_table(f"Forecast from {asked.file.name}", ("", *traces), facts)
    if pairs:
        write_table(f"Which is better at {asked.horizon:,.0f}", ("systems", "winner", "ahead in", "because"), pairs)
    write_lines(*(f"Warning: {note}." for note in notes))
    if asked.plot is not None:
        from aleator.experiment.report.build import write_page
        from aleator.experiment.report.forecast_page import forecast_page

        page = forecast_page(asked.file.name, traces, asked.horizon, facts, pairs, notes)
        write_page(asked.plot, "forecast.html.j2", page)
        write_lines(f"picture: {asked.plot}")
    return 0


def _facts(trace: LearningTrace, asked: Fit) -> dict[str, str]:
    """What there is to say about one curve, by name."""
    state, trend, sign = trace.state(), trace.trend, 1 if trace.higher_is_better else -1
    assert trend is not None  # there are three sizes
    horizon, x = f"{asked.horizon:,.0f}", trace.x
    law = f"{sign * trend.c:.4g} {'−' if sign * trend.a >= 0 else '+'} {abs(trend.a):.4g}·x^−{trend.b:.4g}"

    def level(number: int | None) -> str:
        return "undecided" if number is None else f"{number} (size {x[number - 1]:,.0f})"

    def gain(layer: float | None) -> str:
        return "undecided" if layer is None else f"{layer:.4f}"

    enough = trace.convergence_level(asked.tau, at_horizon=True)
    facts = {
        "observations": f"{state.level}, from {x[0]:,.0f} to {x[-1]:,.0f}",
        "last score": f"{state.score:.4f}",
        "trend": law,
        "asymptote": "none" if state.alpha is None else _forecast(trace, float("inf")),
        f"forecast at {horizon}": _forecast(trace, asked.horizon),
        "95 % band": _band(trace, asked.horizon),
        "working level": level(state.working_level),
        "prediction level": level(state.prediction_level),
        "decided at level": level(state.decision_level),
        f"promised up to {horizon}": gain(state.layer_at_horizon),
        "promised in all": gain(state.layer),
        f"at most {asked.tau:g} left": _enough(trace, enough, asked),
    }
    if asked.target is not None:
        facts[f"size for {asked.target:g}"] = _needed(trace, asked.target)
    if state.level >= 5:
        facts["error on held-out tail"] = _families(trace)
    return facts


def _band(trace: LearningTrace, size: float) -> str:
    if not trace.has_bands:
        return "needs 4 observations"
    return "none" if trace.is_impossible(size) else "{:.4f} to {:.4f}".format(*trace.band(size))


def _forecast(trace: LearningTrace, size: float) -> str:
    """Return the trend's value at a size, or that it is none a score can have."""
    value = trace.predict(size)
    return f"impossible: beyond {value:g}" if trace.is_impossible(size) else f"{value:.4f}"


def _enough(trace: LearningTrace, level: int | None, asked: Fit) -> str:
    if trace.levels.prediction is None:
        return "undecided"
    left = trace.state().layer_at_horizon
    if level is None or left is None or left > asked.tau:
        return "not yet"
    return f"yes, since level {level} (size {trace.x[level - 1]:,.0f})"


def _needed(trace: LearningTrace, target: float) -> str:
    size, reason = trace.size_for(target)
    if size == float("inf"):
        return f"never: {reason}"
    band = ""
    if trace.has_bands:
        low, high = (f"{end:,.0f}" if end < float("inf") else "never" for end in trace.size_band(target))
        band = f", 95 % band {low} to {high}"
    return f"{size:,.0f} ({reason}{band})"


def _families(trace: LearningTrace) -> str:
    from aleator.stats import choose_family

    sign = 1 if trace.higher_is_better else -1
    fits = choose_family(trace.x, sign * trace.scores)
    return ", ".join(f"{fit.family} {fit.tail_error:.4f}" for fit in fits)


def _comparison(a: tuple[str, LearningTrace], b: tuple[str, LearningTrace], horizon: float) -> tuple[str, ...]:
    from aleator.stats import compare_curves

    found = compare_curves(a[1], b[1], at=horizon)
    winner = {"a": a[0], "b": b[0], None: "undecided"}[found.winner]
    ahead = "" if found.confidence is None else f"{100 * found.confidence:.0f} % of refits"
    return f"{a[0]}, {b[0]}", winner, ahead, found.reason


def _notes(trace: LearningTrace) -> list[str]:
    """The trace's warnings in words."""
    state = trace.state()
    notes = []
    for warning in state.warnings:
        by = f" {state.largest_rise:.4f}" if warning == "backbone_not_monotone" else ""
        notes.append(_WARNINGS[warning] + by)
    if state.status == "undecided":
        wait = f"until the asymptote is possible, and calm for {trace.lookahead + 2} levels"
        notes.append(f"undecided: forecasts are usually too good {wait}")
    return notes
