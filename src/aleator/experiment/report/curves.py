"""A learning curve over seeds: the mean of a metric at each step, and a band that says how far seeds differ.

With n seeds at a step, the band is Student's 95 % interval of the mean for n ≥ 3; for two seeds, where that interval
is some thirteen standard deviations wide, it is their range; for one there is none. Nothing is interpolated: a step
counts if every seed logged it, and against wall time a point sits at the mean of the seeds' training seconds at that
step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum, inf
from typing import Literal

from aleator.experiment.report.read import LogLine
from aleator.experiment.shares import is_share
from aleator.stats import mean_interval
from aleator.stats.intervals import cut

Band = Literal["t-interval", "range", "none"]


@dataclass(frozen=True)
class Curve:
    """Mean and band of one metric over ``seeds`` runs.

    Attributes:
        steps: the steps that every run logged, ascending.
        seconds: mean training time at each step.
        mean: mean of the metric at each step.
        low: lower end of the band at each step; equal to the mean where there is no band.
        high: upper end of the band.
        extent: smallest and largest single value of any run.
        band: what the band is.
        seeds: how many runs logged the metric.
    """

    steps: list[int]
    seconds: list[float]
    mean: list[float]
    low: list[float]
    high: list[float]
    extent: tuple[float, float]
    band: Band
    seeds: int


def learning_curve(
    logs: Sequence[Sequence[LogLine]], split: str, metric: str, points: int | None = None
) -> Curve | None:
    """Average one metric over runs.

    Args:
        logs: one log per run. Runs that never logged the metric are left out.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        metric: name of the metric.
        points: keep about this many steps, every k-th and the last; None keeps all.

    Returns:
        The curve, or None when no run logged the metric or the runs share no step.
    """
    series = [
        {
            line.step: (line.seconds, line.metrics[metric])
            for line in log
            if line.split == split and metric in line.metrics
        }
        for log in logs
    ]
    series = [run for run in series if run]
    steps = sorted(set.intersection(*map(set, series))) if series else []
    if not steps:
        return None
    if points is not None and len(steps) > points:
        stride = -(-len(steps) // points)
        steps = sorted({*steps[::stride], steps[-1]})
    values = [[run[step][1] for run in series] for step in steps]
    n = len(series)
    band: Band = "t-interval" if n >= 3 else "range" if n == 2 else "none"
    mean = [fsum(row) / n for row in values]
    low, high = (0.0, 1.0) if is_share(metric, [value for row in values for value in row]) else (-inf, inf)
    ends = [
        (cut(mean_interval(row), low, high) or (centre, centre)) if band == "t-interval" else (min(row), max(row))
        for row, centre in zip(values, mean, strict=True)
    ]
    return Curve(
        steps=steps,
        seconds=[fsum(run[step][0] for run in series) / n for step in steps],
        mean=mean,
        low=[low for low, _ in ends],
        high=[high for _, high in ends],
        extent=(min(map(min, values)), max(map(max, values))),
        band=band,
        seeds=n,
    )
