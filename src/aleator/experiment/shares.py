"""Metrics that are shares: accuracies, of which there is none below 0 and none above 1."""

from __future__ import annotations

from collections.abc import Sequence


def is_accuracy(metric: str) -> bool:
    """Whether a metric is a fraction of correct answers, shown as a percentage."""
    return "accuracy" in metric.split("_")


def is_share(metric: str, values: Sequence[float]) -> bool:
    """Whether a metric is an accuracy, and all its values are fractions."""
    return is_accuracy(metric) and all(0 <= value <= 1 for value in values)


def check_target(target: float | None, metric: str) -> None:
    """Refuse a target that no value of the metric can be.

    Raises:
        ValueError: if the metric is an accuracy, and the target is not in [0, 1].
    """
    if target is not None and is_accuracy(metric) and not 0 <= target <= 1:
        raise ValueError(f"target must be in [0, 1] for {metric}, got {target:g}; divide percentages by 100")
