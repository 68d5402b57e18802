"""From the sizes that were run to one that was not: a learning curve through each variant's test headline.

With n_1 < … < n_k training examples and the mean test headline A(n_i) over seeds, the power law A(n) = c − a·n^(−b) is
fitted to k ≥ 3 sizes and read off at the horizon (see `aleator.stats.LearningTrace`). Training sets are nested and
seeds are shared by all sizes, so the band comes from a bootstrap of whole seeds; with one seed it is a bootstrap of
residuals and needs four sizes.

Where the headline does not get better with size, or the trend of an accuracy is above 1 at the horizon, there is no
forecast, and a flag says why. Bands are cut at 1, and an asymptote above it is not shown.

A few sizes say little about whether the trend may be trusted. What the trace calls its prediction level needs five:
three for a first trend, one more for a first movement of its asymptote, one to see that it stays calm. Calm means here
that over the largest step between two sizes the asymptote moves by no more than the headline rose in all, which is
about the paper's threshold on its own corpora.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from aleator.experiment.protocol import Headline
from aleator.experiment.shares import is_share
from aleator.random import Streams
from aleator.stats import LearningTrace

LEAST_SIZES = 3
_LOOKAHEAD = 1
_POINTS = 40  # of the trend in the report


def check_horizon(sizes: Sequence[int] | None, horizon: int | None) -> None:
    """Refuse a horizon that cannot be forecast.

    Raises:
        ValueError: if there are fewer than three sizes, or the horizon is below the largest.
    """
    if horizon is None:
        return
    if len(sizes or ()) < LEAST_SIZES:
        raise ValueError(f"horizon cannot be used with fewer than {LEAST_SIZES} sizes, got {len(sizes or ())}")
    if horizon < max(sizes or ()):
        raise ValueError(f"horizon must be at least {max(sizes or ())}, the largest size, got {horizon}")


def size_forecasts(
    entries: Sequence[Mapping[str, Any]],
    headline: Headline | None,
    seeds: Sequence[int],
    *,
    horizon: int | None,
    full_size: int | None,
    target: float | None,
) -> list[dict[str, Any]]:
    """Return what the sizes of each variant forecast; nothing for one that has fewer than three, or a run missing.

    Args:
        entries: the variants of ``comparison.json``, one for each size.
        headline: the metric; None when nothing has finished.
        seeds: those that every size should have.
        horizon: the size that is forecast. None takes the whole training set, or twice the largest size where that is
            no more or not known.
        full_size: examples in the whole training set, if the recipe says.
        target: the headline whose size is asked for, if any.
    """
    if headline is None:
        return []
    forecasts = []
    for name in dict.fromkeys(entry["name"] for entry in entries):
        mine = sorted((e for e in entries if e["name"] == name and e["size"] is not None), key=lambda e: int(e["size"]))
        scores = [_scores(entry, headline, seeds) for entry in mine]
        complete = [found for found in scores if found is not None]
        if len(mine) < LEAST_SIZES or len(complete) < len(mine):
            continue
        sizes = [int(entry["size"]) for entry in mine]
        at, source = _horizon(sizes[-1], horizon, full_size)
        trace = _trace(sizes, complete, headline, at)
        forecasts.append({"name": name, "horizon": at, "horizon_source": source, **_told(trace, at, target)})
    return forecasts


def _scores(entry: Mapping[str, Any], headline: Headline, seeds: Sequence[int]) -> list[float] | None:
    """The test headline of every seed, or None where one is missing."""
    found = {run["seed"]: run["test"].get(headline.name) for run in entry["runs"]}
    scores = [found.get(seed) for seed in seeds]
    return None if None in scores or not all(map(math.isfinite, scores)) else scores  # type: ignore[arg-type, return-value]


def _horizon(largest: int, given: int | None, full_size: int | None) -> tuple[int, str]:
    if given is not None:
        return given, "given"
    if full_size is not None and full_size > largest:
        return full_size, "full"
    return 2 * largest, "twice"


def _trace(sizes: Sequence[int], scores: Sequence[list[float]], headline: Headline, horizon: int) -> LearningTrace:
    means = [math.fsum(found) / len(found) for found in scores]
    rise = max(means) - min(means)
    step = max(after - before for before, after in itertools.pairwise(sizes))
    accuracy = is_share(headline.name, [y for found in scores for y in found])
    trace = LearningTrace(
        nu=rise / step or 1 / step,  # without a rise every asymptote is the same
        lookahead=_LOOKAHEAD,
        horizon=horizon,
        higher_is_better=headline.direction == "max",
        bounded=accuracy and headline.direction == "max",
        generator=Streams(0).numpy("comparison", "forecast"),
    )
    trace.extend([float(size) for size in sizes], scores)
    return trace


def _told(trace: LearningTrace, horizon: int, target: float | None) -> dict[str, Any]:
    state, law = trace.state(), trace.trend
    assert law is not None  # there are three sizes
    sign = 1 if trace.higher_is_better else -1
    flags = [flag for flag in law.flags if flag != "flat"]
    if "not_increasing" not in flags and trace.is_impossible(horizon):
        flags.append("impossible")
    elif not flags and trace.is_impossible(math.inf):
        flags.append("impossible_asymptote")
    follows = not {"not_increasing", "impossible"} & set(flags)
    points = np.geomspace(trace.x[0], horizon, _POINTS)
    points[-1] = horizon
    bands = [trace.band(x) for x in points.tolist()] if follows and trace.has_bands else None
    size_of = [None if level is None else int(trace.x[level - 1]) for level in trace.levels]
    return {
        "sizes": [int(x) for x in trace.x],
        "means": [float(score) for score in trace.scores],
        "trend": {"a": sign * law.a, "b": law.b, "c": sign * law.c},
        "flags": flags,
        "backbone": [None if math.isnan(alpha) else float(alpha) for alpha in trace.backbone],
        "working_size": size_of[0],
        "prediction_size": size_of[1],
        "decision_size": size_of[2],
        "forecast": state.prediction if follows else None,
        "band": list(bands[-1]) if bands else None,
        "asymptote": sign * law.c if not flags else None,
        "target": _needed(trace, target) if follows and target is not None else None,
        "curve": {
            "x": points.tolist(),
            "trend": [trace.predict(x) for x in points.tolist()] if follows else None,
            "low": [low for low, _ in bands] if bands else None,
            "high": [high for _, high in bands] if bands else None,
        },
    }


def _needed(trace: LearningTrace, target: float) -> dict[str, Any]:
    size, reason = trace.size_for(target)
    band = trace.size_band(target) if trace.has_bands else None
    # JSON has no infinity: a size that is not reached is null, an open end of the band too.
    ends = None if band is None else [end if math.isfinite(end) else None for end in band]
    return {"value": target, "size": size if math.isfinite(size) else None, "reason": reason, "band": ends}
