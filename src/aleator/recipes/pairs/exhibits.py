"""Pictures of the recipe ``pairs``: calibration of both orders, variances, and whom to answer."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aleator.experiment import Exhibit
from aleator.recipes.pairs.data import Part
from aleator.recipes.pairs.measures import Predictions, squared_errors
from aleator.stats import risk_coverage

_BINS, _POINTS = 20, 400


def first_order(found: Predictions, part: Part) -> Exhibit:
    """Draw how often the likeliest label is given against the probability that the model gave it."""
    label, p, _ = found.likeliest
    right = part.frequencies.gather(1, label.unsqueeze(1)).squeeze(1)
    return _reliability(
        "Reliability of probabilities",
        p,
        right,
        "Predicted probability",
        "Share of responses",
        "the likeliest label",
    )


def second_order(found: Predictions, part: Part) -> Exhibit:
    """Draw the squared error of probabilities against the variance that was claimed for them."""
    variance, errors = found.variance.flatten(), squared_errors(found, part).flatten()
    return _reliability("Reliability of variances", variance, errors, "Claimed variance", "Squared error", "all labels")


def along_the_line(found: Predictions, part: Part) -> Exhibit:
    """Draw the claimed variance and the true squared error along the half-line."""
    assert part.p_true is not None
    errors = (found.p - part.p_true).square()[:, 1]
    return _running("Variance along the line", part.inputs, found.variance[:, 1], errors, "x", 100)


def along_the_digits(found: Predictions, part: Part) -> Exhibit:
    """Draw the variance of all statements together, and their squared error, against the number of the digit."""
    errors = squared_errors(found, part).sum(1)
    return _running("Variance along the digits of pi", part.inputs + 1.0, found.variance.sum(1), errors, "n", 50)


def spread_of_variances(found: Predictions, part: Part) -> Exhibit:
    """Draw for items in order of the variance claimed, how much was claimed and how large the error is."""
    variance, errors = found.variance.sum(1), squared_errors(found, part).sum(1)
    rank = variance.argsort(stable=True).argsort(stable=True).double() / len(variance)
    return _running("Variance of all labels together", rank, variance, errors, "Share of the images", 40)


def answers(found: Predictions, part: Part, weights: Tensor, kind: str) -> Exhibit:
    """Draw `whom_to_answer` for all answers of a classifier."""
    p, doubt = found.p, 1 - found.confidence.clamp(max=1)
    entropy = -torch.special.xlogy(p, p).sum(1, keepdim=True).expand_as(p)
    scores = {"confidence": -doubt.flatten(), "likelihood": p.flatten(), "entropy": -entropy.flatten()}
    wrong = (part.frequencies == 0).flatten().double()
    return whom_to_answer(scores, doubt.flatten(), wrong, (weights.unsqueeze(1) * p).flatten(), kind)


def whom_to_answer(scores: dict[str, Tensor], doubt: Tensor, wrong: Tensor, mass: Tensor, kind: str) -> Exhibit:
    """Draw the rate of impossible answers against the share that is answered, for several rules, and the bound."""
    traces = []
    for colour, (name, score) in enumerate(scores.items()):
        curve = risk_coverage(score, wrong, mass)
        traces.append(_line(f"by {name}", curve.coverage, curve.risk, colour))
    bound = risk_coverage(-doubt, doubt, mass)
    traces.append({**_line("bound", bound.coverage, bound.risk, "ink"), "line": {"dash": "dash"}})
    layout = {
        "xaxis": {"title": {"text": "Share of answers that are given"}},
        "yaxis": {"title": {"text": f"Share of these that are {kind}"}},
        "showlegend": True,
    }
    return Exhibit(
        "Whom to answer",
        f"The rate of answers that are {kind} when the most certain are given, by {', '.join(scores)}; and the bound "
        "that confidence states.",
        plot={"data": traces, "layout": layout},
    )


def _reliability(heading: str, said: Tensor, found: Tensor, x: str, y: str, of: str) -> Exhibit:
    order = said.argsort(stable=True)
    x_means, y_means = (
        torch.stack([part.mean() for part in values[order].tensor_split(_BINS)]) for values in (said, found)
    )
    ends = torch.stack(torch.cat([x_means, y_means]).aminmax())
    traces = [
        {**_line("as claimed", ends, ends, "ink"), "line": {"dash": "dash"}},
        {**_line("found", x_means, y_means, 0), "mode": "markers"},
    ]
    layout = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": y}}, "showlegend": True}
    return Exhibit(heading, f"{_BINS} bins of equally many entries, of {of}.", plot={"data": traces, "layout": layout})


def _running(heading: str, place: Tensor, claimed: Tensor, errors: Tensor, x: str, bins: int) -> Exhibit:
    order = place.argsort(stable=True)
    x_means, *lines = (
        torch.stack([part.double().mean() for part in values[order].tensor_split(bins)])
        for values in (place, claimed, errors)
    )
    named = zip(("claimed", "found"), lines, strict=True)
    traces = [_line(name, x_means, line, i) for i, (name, line) in enumerate(named)]
    layout = {"xaxis": {"title": {"text": x}}, "yaxis": {"title": {"text": "Variance"}}, "showlegend": True}
    return Exhibit(
        heading,
        f"The variance that is claimed and the squared error that is found, means over {bins} neighbourhoods.",
        plot={"data": traces, "layout": layout},
    )


def _line(name: str, x: Tensor, y: Tensor, colour: int | str) -> dict[str, Any]:
    """Return a trace with at most a few hundred points, whatever the curve has."""
    keep = torch.linspace(0, len(x) - 1, min(len(x), _POINTS)).round().long()
    numbers = [[float(f"{value:.5g}") for value in values[keep].tolist()] for values in (x, y)]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": name,
        "x": numbers[0],
        "y": numbers[1],
        "meta": {"colour": colour},
    }
