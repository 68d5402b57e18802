"""Measures of a score that chooses which answers to give: the curve of risk against coverage, the area under the ROC.

Answers are given from the highest score down. At a coverage c the risk is the mean error of the share c that is given.
The area under the ROC is the probability that a good answer has a higher score than a bad one, ties counted half.
Answers with one score are given together, so neither depends on the order of the data.

R. El-Yaniv and Y. Wiener, "On the foundations of noise-free selective classification", JMLR 11 (2010).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class RiskCoverage(NamedTuple):
    """The curve, a point for every different score, from the highest down.

    Attributes:
        threshold: answers with at least this score are given.
        coverage: their share of all, rising to 1.
        risk: their mean error.
        area: the mean risk over coverages: less is better.
    """

    threshold: Float[Tensor, " points"]
    coverage: Float[Tensor, " points"]
    risk: Float[Tensor, " points"]
    area: float


def risk_coverage(
    score: Float[Tensor, " answers"], error: Tensor, weights: Float[Tensor, " answers"] | None = None
) -> RiskCoverage:
    """Return the risk-coverage curve of answers.

    Args:
        score: of each answer, the better the higher.
        error: of each answer: whether it is wrong, or how wrong.
        weights: of the answers, not negative; all equal by default.

    Raises:
        ValueError: if there is no answer with a weight, shapes differ, or a value is not a finite number.
    """
    values, wrong, weight = _checked(score, error, weights)
    thresholds, place = torch.unique(-values, return_inverse=True)
    mass = torch.zeros_like(thresholds).index_add_(0, place, weight)
    bad = torch.zeros_like(thresholds).index_add_(0, place, weight * wrong)
    kept = mass > 0
    mass, bad, thresholds = mass[kept], bad[kept], thresholds[kept]
    given = mass.cumsum(0)
    risk = bad.cumsum(0) / given
    return RiskCoverage(-thresholds, given / given[-1], risk, float((risk * mass).sum() / given[-1]))


def auroc(score: Float[Tensor, " answers"], good: Tensor, weights: Float[Tensor, " answers"] | None = None) -> float:
    """Return the probability that a good answer has a higher score than a bad one, ties counted half.

    Args:
        score: of each answer.
        good: of each answer, whether it is good.
        weights: of the answers, not negative; all equal by default.

    Raises:
        ValueError: if there is no good or no bad answer with a weight, shapes differ, or a value is not a finite
            number.
    """
    values, right, weight = _checked(score, good, weights)
    if bool(((right != 0) & (right != 1)).any()):
        raise ValueError(f"good must be 0 or 1, got {right[(right != 0) & (right != 1)][0].item():g}")
    levels, place = torch.unique(values, return_inverse=True)
    goods = torch.zeros_like(levels).index_add_(0, place, weight * right)
    bads = torch.zeros_like(levels).index_add_(0, place, weight * (1 - right))
    if not (goods.sum() > 0 and bads.sum() > 0):
        raise ValueError("good must have answers of both kinds, got one kind")
    below = bads.cumsum(0) - bads / 2
    return float((goods * below).sum() / (goods.sum() * bads.sum()))


def _checked(score: Tensor, judged: Tensor, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    weight = torch.ones_like(score, dtype=torch.float64) if weights is None else weights.double()
    if score.ndim != 1 or not score.shape == judged.shape == weight.shape:
        raise ValueError(
            "score, judgement and weights must have one value for each answer, "
            f"got shapes {tuple(score.shape)}, {tuple(judged.shape)} and {tuple(weight.shape)}"
        )
    values, verdict = score.double(), judged.double()
    for name, numbers in (("score", values), ("judgement", verdict), ("weights", weight)):
        wrong = numbers[~numbers.isfinite()]
        if len(wrong):
            raise ValueError(f"{name} must be finite numbers, got {wrong[0].item():g}")
    if bool((weight < 0).any()):
        raise ValueError(f"weights must not be negative, got {weight.min().item():g}")
    if not weight.sum() > 0:
        raise ValueError("score must be of at least one answer with a weight, got none")
    return values, verdict, weight
