"""Pictures of the recipe ``pde``: the solution along lines through the domain, and the error while it was learned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from aleator.experiment import Exhibit
from aleator.pde.problems import Problem
from aleator.random import Streams

_POINTS, _LINES = 101, 3


@torch.no_grad()
def slices(problem: Problem, predict: Callable[[Tensor], Tensor], device: Any) -> list[Exhibit]:
    """Draw the solution along lines through the middle of space: along an axis, the diagonal, and a random direction.

    With time, at its first instant; a problem that is known at one point has no lines.
    """
    if problem.known_points is not None:
        return []
    d = problem.d
    random = torch.randn(d, generator=Streams(0).generator("pde", "direction"), dtype=torch.float64)
    directions = {
        "along the first axis": torch.eye(1, d, dtype=torch.float64)[0],
        "along the diagonal": torch.ones(d, dtype=torch.float64) / d**0.5,
        "along a random direction": random / torch.linalg.vector_norm(random),
    }
    place = torch.linspace(-1, 1, _POINTS, dtype=torch.float64)
    traces = []
    for colour, (name, direction) in enumerate(directions.items()):
        x = place.unsqueeze(1) * direction
        if problem.domain.time is not None:
            x = torch.cat([x, torch.full((_POINTS, 1), problem.domain.time[0], dtype=torch.float64)], 1)
        x = x.to(device)
        exact, found = problem.solution(x), predict(x).flatten()
        traces.append({**_line(f"exact, {name}", place, exact, colour), "line": {"dash": "dash"}})
        traces.append(_line(f"found, {name}", place, found, colour))
    layout = {
        "xaxis": {"title": {"text": "distance from the middle"}},
        "yaxis": {"title": {"text": "u"}},
        "showlegend": True,
    }
    return [
        Exhibit(
            "Slices of the solution",
            f"u along {_LINES} lines through the middle of {d} dimensions, found and exact (dashed). Few points lie "
            "near these lines than in the test.",
            plot={"data": traces, "layout": layout},
        )
    ]


def errors(curve: Sequence[tuple[int, float]], pace: float | None, trivial: float, name: str) -> list[Exhibit]:
    """Draw the error on validation points against steps and time of training, and the trivial predictor's.

    Args:
        curve: steps and errors.
        pace: seconds that a step took, evaluations apart; None where no step was seen.
        trivial: error of the trivial predictor.
        name: what it is.
    """
    if not curve:
        return []
    steps, found = (torch.tensor(column, dtype=torch.float64) for column in zip(*curve, strict=True))
    axes: list[tuple[str, Tensor, dict[str, str]]] = [("steps", steps, {})]
    if pace is not None:
        axes.append(("seconds of training", steps * pace, {"clock": "x"}))
    drawn = []
    for text, places, clock in axes:
        ends = torch.stack([places[0], places[-1]])
        shown = [
            _line("found", places, found, 0),
            {**_line(f"trivial: {name}", ends, torch.full((2,), trivial), "ink"), "line": {"dash": "dash"}},
        ]
        for trace in shown:
            trace["meta"] = {**trace["meta"], **clock}
        layout = {
            "xaxis": {"title": {"text": text}},
            "yaxis": {"title": {"text": "relative L2 error"}, "type": "log"},
            "showlegend": True,
        }
        drawn.append(
            Exhibit(
                f"Error against {text}",
                f"The relative error at validation points, and that of the trivial predictor {name}, {trivial:.3g}.",
                plot={"data": shown, "layout": layout},
            )
        )
    return drawn


def _line(name: str, x: Tensor, y: Tensor, colour: int | str) -> dict[str, Any]:
    numbers = [[float(f"{value:.5g}") for value in values.double().tolist()] for values in (x, y)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": numbers[0],
        "y": numbers[1],
        "meta": {"colour": colour},
    }
