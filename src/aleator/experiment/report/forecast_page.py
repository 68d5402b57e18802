"""The page of a learning-curve forecast: observations, trend, band, asymptote and levels, and the tables."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aleator.experiment.report import words
from aleator.experiment.report.figures import Figure, Look
from aleator.stats import LearningTrace
from aleator.version import __version__

POINTS = 80  # of a drawn trend


def forecast_page(
    name: str,
    traces: Mapping[str, LearningTrace],
    horizon: float,
    facts: Sequence[tuple[str, ...]],
    pairs: Sequence[tuple[str, ...]],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return everything that forecast.html.j2 shows.

    Args:
        name: of the data, for the title.
        traces: one for each system, of at least three observations.
        horizon: the size up to which trends are drawn.
        facts: rows of a table: a name, and a cell for each system.
        pairs: rows of a table: two systems, the winner, the share of refits, the reason.
        notes: warnings, in words.
    """
    look = {system: Look(i) for i, system in enumerate(traces)}
    values = [
        f"{system + ': ' if len(traces) > 1 else ''}{_forecast(trace, horizon)}" for system, trace in traces.items()
    ]
    return {
        "title": name,
        "verdict": f"Forecast at {words.number(horizon, 12)}: {'; '.join(values)}.",
        "notes": notes,
        "look": look,
        "head": list(traces),
        "facts": facts,
        "pairs": pairs,
        "figures": {"forecast": forecast_figure(traces, look, horizon)},
        "command": "",
        "created": "",
        "environment": [("Aleator", __version__)],
    }


def forecast_figure(traces: Mapping[str, LearningTrace], look: Mapping[str, Look], horizon: float) -> Figure:
    """Draw each system's observations, its trend up to the horizon with its band, its asymptote and its levels."""
    drawn: list[dict[str, Any]] = []
    for system, trace in traces.items():
        style, state = look[system], trace.state()
        meta = {"colour": style.colour, "variant": style.index}
        sizes = [math.exp(t) for t in _steps(math.log(trace.x[0]), math.log(max(horizon, trace.x[-1])))]
        if trace.has_bands:
            ends = [trace.band(x) for x in sizes]
            band = [*(high for _, high in ends), *(low for low, _ in reversed(ends))]
            hidden = {"line": {"width": 0}, "fill": "toself", "hoverinfo": "skip"}
            drawn.append(_trace(sizes + sizes[::-1], band, "lines", {"role": "band", **meta}, **hidden))
        line = {
            "line": {"width": 2, "dash": style.dash},
            "hovertemplate": "trend at %{x:,.0f}: %{y:.4f}<extra></extra>",
        }
        drawn.append(_trace(sizes, [trace.predict(x) for x in sizes], "lines", {"role": "line", **meta}, **line))
        if state.status == "converged" and state.alpha is not None:
            end = trace.predict(math.inf)
            far = {"line": {"width": 1, "dash": "dot"}, "hovertemplate": "asymptote: %{y:.4f}<extra></extra>"}
            drawn.append(_trace([sizes[0], sizes[-1]], [end, end], "lines", {"role": "line", **meta}, **far))
        points = {"marker": {"symbol": style.marker, "size": 7}, "hovertemplate": "%{x:,.0f}: %{y:.4f}<extra></extra>"}
        observed = list(trace.scores)
        drawn.append(_trace(list(trace.x), observed, "markers", {"role": "seed", **meta}, **points))
        for letter, level in (("ω", state.working_level), ("℘", state.prediction_level)):
            if level is not None:
                label: dict[str, Any] = {
                    "text": [letter],
                    "textposition": "bottom center" if letter == "ω" else "top center",
                }
                ring: dict[str, Any] = {"marker": {"symbol": "circle-open", "size": 13}, "hoverinfo": "skip", **label}
                x, y = trace.x[level - 1], observed[level - 1]
                drawn.append(_trace([x], [y], "markers+text", {"role": "seed", **meta}, **ring))
    return {
        "data": drawn,
        "layout": {
            "height": 420,
            "margin": {"l": 10, "r": 12, "t": 12, "b": 44},
            "hovermode": "closest",
            "xaxis": {"title": {"text": "Size"}, "type": "log"},
            "yaxis": {"title": {"text": "Score"}, "automargin": True},
        },
    }


def _forecast(trace: LearningTrace, horizon: float) -> str:
    value = words.number(trace.predict(horizon))
    return f"none, the trend leads beyond {value}" if trace.is_impossible(horizon) else value


def _steps(low: float, high: float) -> list[float]:
    return [low + (high - low) * i / (POINTS - 1) for i in range(POINTS)]


def _trace(x: Sequence[float], y: Sequence[float], mode: str, meta: dict[str, Any], **more: Any) -> dict[str, Any]:
    numbers = ([float(f"{value:.6g}") for value in values] for values in (x, y))
    return {"type": "scatter", "mode": mode, **dict(zip("xy", numbers, strict=True)), "meta": meta, **more}
