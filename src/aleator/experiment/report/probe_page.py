"""The page of a curvature probe: the density of eigenvalues, the largest stable rates, and the tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from aleator.experiment.report.figures import Figure, Look
from aleator.version import __version__


def probe_page(
    name: str,
    verdict: str,
    densities: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    rates: Mapping[str, Mapping[int, float]],
    facts: Sequence[tuple[str, ...]],
    stable: Sequence[tuple[str, ...]],
    notes: Sequence[str],
) -> dict[str, Any]:
    """Return everything that probe.html.j2 shows.

    Args:
        name: of the recipe, for the title.
        verdict: what is suggested, in a sentence.
        densities: for each moment eigenvalues and their density.
        rates: for each moment the largest stable learning rate by batch size.
        facts: rows of a table: a name, and a cell for each moment.
        stable: rows of a table: a batch size, and a rate for each moment.
        notes: warnings, in words.
    """
    look = {moment: Look(i) for i, moment in enumerate(densities)}
    lines = {moment: (list(by_batch), list(by_batch.values())) for moment, by_batch in rates.items()}
    return {
        "title": name,
        "verdict": verdict,
        "notes": notes,
        "look": look,
        "head": list(densities),
        "facts": facts,
        "stable": stable,
        "figures": {
            "density": _figure(densities, look, "Eigenvalue of the Hessian", "Density", "linear", "log"),
            "rates": _figure(lines, look, "Batch size", "Largest stable learning rate", "log", "log"),
        },
        "command": "",
        "created": "",
        "environment": [("Aleator", __version__)],
    }


def _figure(
    lines: Mapping[str, tuple[Sequence[float], Sequence[float]]],
    look: Mapping[str, Look],
    x: str,
    y: str,
    x_type: str,
    y_type: str,
) -> Figure:
    drawn = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [float(f"{value:.6g}") for value in values[0]],
            "y": [float(f"{value:.6g}") for value in values[1]],
            "meta": {"role": "line", "colour": look[moment].colour, "variant": look[moment].index},
            "line": {"width": 2, "dash": look[moment].dash},
            "hovertemplate": "%{x:.4g}: %{y:.4g}<extra></extra>",
        }
        for moment, values in lines.items()
    ]
    return {
        "data": drawn,
        "layout": {
            "height": 380,
            "margin": {"l": 10, "r": 12, "t": 12, "b": 44},
            "hovermode": "closest",
            "xaxis": {"title": {"text": x}, "type": x_type},
            "yaxis": {"title": {"text": y}, "type": y_type, "automargin": True},
        },
    }
