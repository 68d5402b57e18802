"""The plots, as plain plotly figures without colours.

A figure here is data, layout and, in every trace's ``meta``, which variant it belongs to and what it is (band, line,
dot). The page's script adds the colours of the light or the dark theme from the style sheet, so that a figure is
stored once and a variant has one colour, dash and marker wherever it appears. Text that came from outside is escaped:
plotly reads a subset of HTML in labels.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aleator.experiment.report import words
from aleator.experiment.report.curves import Curve
from aleator.experiment.report.read import Comparison, Pair, SizeForecast, Variant
from aleator.experiment.shares import is_accuracy

# Seven colours and six dashes and markers: 42 variants differ in at least one, and two that share a colour do not
# share a dash. Colours are custom properties (--c0 … --c6) of report.css.
COLOURS = 7
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
STROKES = ("", "6 3", "2 2.5", "6 2.5 2 2.5", "9 3", "9 2.5 2 2.5")
MARKERS = ("circle", "square", "diamond", "triangle-up", "triangle-down", "cross")

ROW = 52  # pixels for a row of an interval plot: a line of text and the interval under it

Figure = dict[str, Any]


@dataclass(frozen=True)
class Look:
    """How a variant looks, everywhere."""

    index: int

    @property
    def colour(self) -> int:
        """Number of the colour in the style sheet."""
        return self.index % COLOURS

    @property
    def dash(self) -> str:
        """Plotly's name of the dash."""
        return DASHES[self.index % len(DASHES)]

    @property
    def stroke(self) -> str:
        """The dash as an SVG ``stroke-dasharray``."""
        return STROKES[self.index % len(STROKES)]

    @property
    def marker(self) -> str:
        """Plotly's name of the marker."""
        return MARKERS[self.index % len(MARKERS)]


def looks(variants: Sequence[Variant]) -> dict[str, Look]:
    """Give every label its look, in order of appearance."""
    return {label: Look(i) for i, label in enumerate(dict.fromkeys(variant.label for variant in variants))}


def curves_figure(
    curves: Sequence[tuple[str, Look, Curve]],
    metric: str,
    split: str,
    against: Literal["steps", "seconds"],
    bands: bool = True,
    markers: bool = True,
) -> Figure:
    """Draw learning curves, one line and, where there is one, one band for each.

    Args:
        curves: label, look and curve of each variant.
        metric: the metric's name, for the axis.
        split: the split's name, for the axis.
        against: what the horizontal axis measures.
        bands: whether to draw the bands.
        markers: whether to draw markers; on a noisy line they hide what they mark.
    """
    factor = words.scale(metric)
    traces: list[dict[str, Any]] = []
    for _, look, curve in curves:
        if bands and curve.band != "none":
            x = _rounded(getattr(curve, against))
            traces.append(
                {
                    "type": "scatter",
                    "mode": "lines",
                    "x": x + x[::-1],
                    "y": _rounded([*curve.high, *reversed(curve.low)], factor),
                    "fill": "toself",
                    "hoverinfo": "skip",
                    "line": {"width": 0},
                    "meta": {"role": "band", "colour": look.colour, "variant": look.index},
                }
            )
    for label, look, curve in curves:
        unit = f"{words.THIN}%" if is_accuracy(metric) else ""
        digits = ".2f" if is_accuracy(metric) else ".4~g"
        with_band = bands and curve.band != "none"
        traces.append(
            {
                "type": "scatter",
                "mode": "lines+markers" if markers else "lines",
                "x": _rounded(getattr(curve, against)),
                "y": _rounded(curve.mean, factor),
                "customdata": _band_rows(curve, factor) if with_band else None,
                "name": _plain(label),
                "line": {"width": 2 if bands else 1.4, "dash": look.dash},
                "marker": {"symbol": look.marker, "size": 6, "maxdisplayed": 12},
                "hovertemplate": f"%{{y:{digits}}}{unit}"
                + (f" (%{{customdata[0]:{digits}}} to %{{customdata[1]:{digits}}})" if with_band else ""),
                "meta": {"role": "line", "colour": look.colour, "variant": look.index},
            }
        )
    name = "Training steps" if against == "steps" else "Training time, seconds"
    return {
        "data": traces,
        "late": _late_range(curves, factor, bands),
        "layout": {
            "height": 340,
            "margin": {"l": 10, "r": 12, "t": 12, "b": 44},
            "hovermode": "x unified" if against == "steps" else "closest",
            "xaxis": {"title": {"text": name}, "rangemode": "tozero"},
            "yaxis": {
                "title": {"text": words.axis(metric, split)},
                "automargin": True,
                # From the runs themselves: a t-interval of three seeds can be wider than anything that was measured.
                "range": _range([curve.extent for _, _, curve in curves], factor),
            },
        },
    }


def headline_figure(variants: Sequence[Variant], look: dict[str, Look], metric: str) -> Figure:
    """Draw each variant's test metric: a small dot for every seed, the mean, and its 95 % interval."""
    factor = words.scale(metric)
    traces: list[dict[str, Any]] = []
    for row, variant in enumerate(variants):
        style = look[variant.label]
        seeds = [(run.seed, run.test[metric]) for run in variant.finished if metric in run.test]
        seeds = seeds if len(seeds) > 1 else []  # one seed is its own mean
        meta = {"colour": style.colour, "variant": style.index}
        unit = f"{words.THIN}%" if is_accuracy(metric) else ""
        digits = ".2f" if is_accuracy(metric) else ".4~g"
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": _rounded([value for _, value in seeds], factor),
                "y": [row + 0.22] * len(seeds),
                "text": [f"seed {seed}" for seed, _ in seeds],
                "hovertemplate": f"%{{text}}: %{{x:{digits}}}{unit}<extra></extra>",
                "marker": {"symbol": f"{style.marker}-open", "size": 7},
                "meta": {"role": "seed", **meta},
            }
        )
        if metric in variant.summary:
            summary = variant.summary[metric]
            traces.append(
                _interval_trace(
                    row,
                    summary.mean * factor,
                    None if summary.interval is None else (summary.interval[0] * factor, summary.interval[1] * factor),
                    f"mean {words.with_unit(metric, summary.mean)}"
                    + (f" ({words.interval(metric, summary.interval)})" if summary.interval else ""),
                    style.marker,
                    {"role": "interval", **meta},
                )
            )
    labels = [variant.label for variant in variants]
    return _rows_figure(traces, labels, words.axis(metric, "test"))


def pairs_figure(pairs: Sequence[Pair], metric: str) -> Figure:
    """Draw paired differences with their 95 % intervals; where the interval includes zero the dot is open."""
    differences = [
        (f"{_short(pair.a, 24)} − {_short(pair.b, 24)}", pair.mean, pair.interval, pair.reading == "excludes zero")
        for pair in pairs
    ]
    return differences_figure(differences, metric, "Difference")


def differences_figure(
    differences: Sequence[tuple[str, float, tuple[float, float] | None, bool]], metric: str, what: str
) -> Figure:
    """Draw differences of a test metric with their intervals around zero.

    Args:
        differences: label, difference, interval, and whether it is told apart from zero; the dot of others is open.
        metric: the metric's name, for the axis.
        what: the differences' name, for the axis.
    """
    factor = words.scale(metric)
    traces = [
        _interval_trace(
            row,
            mean * factor,
            None if ends is None else (ends[0] * factor, ends[1] * factor),
            f"{words.difference(metric, mean)} ({words.difference_interval(metric, ends)})",
            "circle" if apart else "circle-open",
            {"role": "interval", "colour": "ink"},
        )
        for row, (_, mean, ends, apart) in enumerate(differences)
    ]
    points = ", points" if is_accuracy(metric) else ""
    figure = _rows_figure(traces, [label for label, *_ in differences], f"{what} in test {words.title(metric)}{points}")
    figure["layout"]["shapes"] = [
        {"type": "line", "xref": "x", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "layer": "below"}
    ]
    ends = [0.0, *(end * factor for _, mean, found, _ in differences for end in (found or (mean, mean)))]
    figure["layout"]["xaxis"]["range"] = _padded(min(ends), max(ends))
    return figure


def sizes_figure(comparison: Comparison, look: dict[str, Look], metric: str) -> Figure:
    """Draw the mean test headline against the training size, with 95 % intervals, on a logarithmic axis.

    Where a variant has a forecast, its line is the fitted trend, up to the horizon, with its band.
    """
    factor = words.scale(metric)
    forecasts = {found.name: found for found in comparison.forecasts if found.points}
    traces: list[dict[str, Any]] = []
    for name, found in forecasts.items():
        traces += _trend_traces(found, look[name], metric)
    for label, style in look.items():
        found_at = sorted(
            (variant.size, variant.summary[metric])
            for variant in comparison.variants
            if variant.label == label and variant.size is not None and metric in variant.summary
        )
        up = [(s.interval[1] - s.mean) * factor if s.interval else None for _, s in found_at]
        down = [(s.mean - s.interval[0]) * factor if s.interval else None for _, s in found_at]
        traces.append(
            {
                "type": "scatter",
                "mode": "markers" if label in forecasts else "lines+markers",
                "name": _plain(label),
                "x": [size for size, _ in found_at],
                "y": _rounded([summary.mean for _, summary in found_at], factor),
                "text": [words.interval(metric, summary.interval) for _, summary in found_at],
                "hovertemplate": "%{y:.4~g} (%{text})",
                "error_y": {
                    "type": "data",
                    "symmetric": False,
                    "array": up,
                    "arrayminus": down,
                    "thickness": 1.2,
                    "width": 4,
                },
                "line": {"width": 2, "dash": style.dash},
                "marker": {"symbol": style.marker, "size": 8},
                "meta": {"role": "line", "colour": style.colour, "variant": style.index},
            }
        )
    ticks = sorted({size for size in comparison.sizes if size is not None} | {f.horizon for f in forecasts.values()})
    yaxis: dict[str, Any] = {"title": {"text": words.axis(metric, "test")}, "automargin": True}
    if forecasts:
        yaxis["range"] = _forecast_range(comparison, list(forecasts.values()), metric)
    return {
        "data": traces,
        "layout": {
            "height": 420 if forecasts else 360,
            "margin": {"l": 10, "r": 12, "t": 12, "b": 44},
            "hovermode": "x unified",
            "xaxis": {
                "title": {"text": "Training examples"},
                "type": "log",
                "tickvals": ticks,
                "ticktext": [words.number(size, 12) for size in ticks],
            },
            "yaxis": yaxis,
        },
    }


def exhibit_figure(plot: Mapping[str, Any]) -> Figure:
    """Complete a plot that a task has to show: what the page's script expects, where the task left it out."""
    data = [{**trace, "meta": {"colour": 0, **trace.get("meta", {})}} for trace in plot["data"]]
    layout: dict[str, Any] = {"height": 380, "margin": {"l": 10, "r": 12, "t": 12, "b": 44}, "xaxis": {}, "yaxis": {}}
    layout |= plot.get("layout", {})
    for name in [name for name in layout if name.startswith(("xaxis", "yaxis"))]:
        layout[name] = {"automargin": True, **layout[name]}
    return {"data": data, "layout": layout}


def _trend_traces(found: SizeForecast, style: Look, metric: str) -> list[dict[str, Any]]:
    """The band, the trend, its asymptote, the size from which that was calm, and the forecast."""
    factor, x = words.scale(metric), _rounded([size for size, _ in found.points])
    trend = _rounded([value for _, value in found.points], factor)

    def trace(role: str, **drawing: Any) -> dict[str, Any]:
        meta = {"role": role, "colour": style.colour, "variant": style.index}
        return {"type": "scatter", "mode": "lines", "hoverinfo": "skip", **drawing, "meta": meta}

    traces = []
    if found.low:
        band = _rounded([*found.high, *reversed(found.low)], factor)
        traces.append(trace("band", x=x + x[::-1], y=band, fill="toself", line={"width": 0}))
    traces.append(trace("trend", x=x, y=trend, line={"width": 2, "dash": style.dash}))
    if found.asymptote is not None:
        level = _rounded([found.asymptote] * 2, factor)
        traces.append(trace("asymptote", x=[x[0], x[-1]], y=level, line={"width": 1, "dash": "dot"}))
    if found.decision is not None:
        at = min(range(len(x)), key=lambda i: abs(x[i] - (found.prediction or 0)))
        ring = {"symbol": "circle-open", "size": 16, "line": {"width": 1.5}}
        traces.append(trace("level", mode="markers", x=[found.prediction], y=[trend[at]], marker=ring))
    if found.forecast is not None:
        traces.append(
            trace(
                "forecast",
                mode="markers",
                hoverinfo="all",
                name=_plain(f"{found.name}, forecast"),
                x=[found.horizon],
                y=_rounded([found.forecast], factor),
                text=[words.interval(metric, found.band)],
                hovertemplate="%{y:.4~g} (%{text})",
                marker={"symbol": f"{style.marker}-open", "size": 9},
            )
        )
    return traces


def _forecast_range(comparison: Comparison, forecasts: Sequence[SizeForecast], metric: str) -> list[float]:
    """A vertical range of what was measured and the trends; wide intervals and far asymptotes may leave it."""
    summaries = [v.summary[metric] for v in comparison.variants if v.size is not None and metric in v.summary]
    core = [summary.mean for summary in summaries] + [value for found in forecasts for _, value in found.points]
    low, high = min(core), max(core)
    room = 0.5 * (high - low)
    further = [end for summary in summaries for end in summary.interval or ()]
    further += [end for found in forecasts for end in found.band or ()]
    further += [a for found in forecasts if (a := found.asymptote) is not None and low - room <= a <= high + room]
    shown = core + [min(max(value, low - room), high + room) for value in further]
    factor = words.scale(metric)
    return _padded(min(shown) * factor, max(shown) * factor)


def _rows_figure(traces: list[dict[str, Any]], labels: Sequence[str], name: str) -> Figure:
    """Interval plots share a shape: one row each, its label above it, so that a narrow screen keeps the full width."""
    return {
        "data": traces,
        "layout": {
            "height": ROW * len(labels) + 62,
            "margin": {"l": 8, "r": 12, "t": 6, "b": 44},
            "hovermode": "closest",
            "xaxis": {"title": {"text": name}},
            "yaxis": {
                "range": [len(labels) - 0.45, -0.75],
                "showticklabels": False,
                "showgrid": False,
                "fixedrange": True,
                "zeroline": False,
            },
            "annotations": [
                {
                    "xref": "paper",
                    "yref": "y",
                    "x": 0,
                    "y": row - 0.16,
                    "text": _plain(_short(label, 50)),
                    "showarrow": False,
                    "xanchor": "left",
                    "yanchor": "bottom",
                    "borderpad": 1,
                }
                for row, label in enumerate(labels)
            ],
        },
    }


def _interval_trace(
    row: int, mean: float, ends: tuple[float, float] | None, text: str, symbol: str, meta: dict[str, Any]
) -> dict[str, Any]:
    trace: dict[str, Any] = {
        "type": "scatter",
        "mode": "markers",
        "x": _rounded([mean]),
        "y": [row],
        "text": [_plain(text)],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {"symbol": symbol, "size": 10},
        "meta": meta,
    }
    if ends is not None:
        trace["error_x"] = {
            "type": "data",
            "symmetric": False,
            "array": _rounded([ends[1] - mean]),
            "arrayminus": _rounded([mean - ends[0]]),
            "thickness": 1.8,
            "width": 5,
        }
    return trace


def _band_rows(curve: Curve, factor: float) -> list[list[float]]:
    return [_rounded(ends, factor) for ends in zip(curve.low, curve.high, strict=True)]


def _late_range(curves: Sequence[tuple[str, Look, Curve]], factor: float, bands: bool) -> list[float] | None:
    """The vertical range of each curve's own second half, where variants that all learn can be distinguished."""
    values = [
        value * factor
        for _, _, curve in curves
        for shown in ((curve.low, curve.high) if bands else (curve.mean,))
        for value in shown[len(shown) // 2 :]
    ]
    return _padded(min(values), max(values)) if values else None


def _range(extents: Sequence[tuple[float, float]], factor: float) -> list[float] | None:
    if not extents:
        return None
    return _padded(min(low for low, _ in extents) * factor, max(high for _, high in extents) * factor)


def _padded(low: float, high: float) -> list[float]:
    """A range with 6 % of air at both ends."""
    air = 0.06 * (high - low) or 0.06 * abs(high) or 1.0
    return [low - air, high + air]


def _rounded(values: Sequence[float], factor: float = 1.0) -> list[float]:
    """Six significant digits: more than a screen shows, and a third of the bytes."""
    return [float(f"{value * factor:.6g}") for value in values]


def _plain(text: str) -> str:
    """Text that plotly shows as it is: it reads HTML, and templates of its own."""
    return html.escape(text, quote=False).replace("%{", "%\u200b{")


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[: limit - 1] + "…"
