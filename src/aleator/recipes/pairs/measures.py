"""Measures of the recipe ``pairs``: calibration of both orders, intervals, and rules for whom to answer.

All metrics are over held-out items in float64. Where the truth is a table of counts, squared errors are the unbiased
estimates from it and "impossible" is what nobody said, which is more than what is impossible.
"""

from __future__ import annotations

import warnings
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aleator.nn import PairDistribution
from aleator.recipes.pairs.data import Part
from aleator.stats import (
    auroc,
    confidence_interval,
    conservative_factor,
    ece1,
    ece2,
    pair_squared_error,
    risk_coverage,
)

EPS, ALPHA = 1e-3, 0.05
BETAS = (0.5, 0.2, 0.05)  # of intervals
DOUBTS = (0.5, 0.3, 0.1, 0.02)  # of answers
BOUNDED = (0.5, 0.3, 0.1)  # where the bound is larger than a trained model's own error
MATCHED = 0.1  # where rules are compared at one rate of answers


class Predictions(NamedTuple):
    """What is kept of a `PairDistribution`, in float64 on the CPU.

    Attributes:
        p: first marginals.
        variance: V, raw.
        confidence: C, raw.
        log_pair: log-probability of the pair that was observed.
        information: mutual information.
        agreement: P(Y₁ = Y₂).
    """

    p: Float[Tensor, "items K"]
    variance: Float[Tensor, "items K"]
    confidence: Float[Tensor, "items K"]
    log_pair: Float[Tensor, " items"]
    information: Float[Tensor, " items"]
    agreement: Float[Tensor, " items"]

    @classmethod
    def of(cls, pairs: PairDistribution, y1: Tensor, y2: Tensor) -> Predictions:
        """Read them off a batch of distributions."""
        found = (
            pairs.log_marginal().exp(),
            pairs.variance(clip=False),
            pairs.confidence(clip=False),
            pairs.log_prob(y1, y2),
            pairs.mutual_information(),
            pairs.agreement(),
        )
        return cls(*(values.double().cpu() for values in found))

    @property
    def likeliest(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of each item the likeliest label, its probability and its variance."""
        label = self.p.argmax(1, keepdim=True)
        p, variance = (values.gather(1, label).squeeze(1) for values in (self.p, self.variance))
        return label.squeeze(1), p, variance


def squared_errors(found: Predictions, part: Part) -> Float[Tensor, "items K"]:
    """Return the squared error of every probability, exact or estimated."""
    return pair_squared_error(found.p, p_true=part.p_true, counts=None if part.p_true is not None else part.counts)


def calibration(found: Predictions, part: Part) -> dict[str, float]:
    """Return how good the predictions are, and how good what they say about themselves."""
    truth, p = part.frequencies, found.p
    top, top_p, _ = found.likeliest
    log_p = p.clamp(min=1e-300).log()
    nll = -(truth * log_p).sum(1)
    # Rows of p sum to 1 but for the rounding of float32.
    second_order = {"p_true": part.p_true} if part.p_true is not None else {"counts": part.counts}
    errors = squared_errors(found, part)
    return {
        "ece2": ece2(p, found.variance, **second_order),
        "ece1": ece1(top_p, truth.gather(1, top.unsqueeze(1)).squeeze(1)),
        "signed_gap": float((errors - found.variance).mean()),
        "variance": float(found.variance.mean()),
        "least_variance": float(found.variance.min()),
        "squared_error": float(errors.mean()),
        "kl": float((torch.special.xlogy(truth, truth).sum(1) + nll).mean()),
        "nll": float(nll.mean()),
        "brier": float((p.square() - 2 * p * truth).sum(1).mean() + 1),
        "pair_nll": float(-found.log_pair.mean()),
        "accuracy": float(truth.gather(1, top.unsqueeze(1)).mean()),
        "mutual_information": float(found.information.mean()),
        "agreement": float(found.agreement.mean()),
        "agreement_observed": float((part.y1 == part.y2).double().mean()),
    }


def intervals(of_calibration: Predictions, calibration: Part, found: Predictions, part: Part) -> dict[str, float]:
    """Return the factor of the intervals for the likeliest label, their width, and how often the truth is outside."""
    label, p, variance = of_calibration.likeliest
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # raw variances below 0 are reported as least_variance
        gamma = conservative_factor(p, variance, calibration.y1 == label, calibration.y2 == label, EPS, ALPHA)
    top, p, variance = found.likeliest
    metrics = {"interval_factor": gamma}
    for beta in BETAS:
        low, high = confidence_interval(p, variance, beta, gamma, EPS)
        metrics[f"interval_width_{beta:g}"] = float((high - low).mean())
        if part.p_true is None:
            continue
        truth = part.p_true.gather(1, top.unsqueeze(1)).squeeze(1)
        metrics[f"violated_{beta:g}"] = float(((truth < low) | (truth > high)).double().mean())
        low, high = confidence_interval(p, variance, beta)
        metrics[f"raw_violated_{beta:g}"] = float(((truth < low - 1e-9) | (truth > high + 1e-9)).double().mean())
    return metrics


def abstention(
    found: Predictions, impossible: Bool[Tensor, "items K"], weights: Float[Tensor, " items"]
) -> dict[str, float]:
    """Return rates of impossible answers, their bounds, and how well rules tell such answers from others.

    Rates are exact sums over items and answers.

    Args:
        found: what is predicted.
        impossible: which answers are.
        weights: of the items; they sum to 1.
    """
    p, doubt = found.p, 1 - found.confidence.clamp(max=1)
    mass, wrong = weights.unsqueeze(1) * p, impossible.double()
    metrics = filtered(mass, doubt, wrong)
    for beta in DOUBTS:
        kept = p * (doubt <= beta)
        rows = kept / kept.sum(1, keepdim=True).clamp(min=1e-300) * weights.unsqueeze(1)
        best = torch.nn.functional.one_hot(kept.argmax(1), p.shape[1]) * (weights * kept.any(1)).unsqueeze(1)
        metrics |= _rates("_reject", beta, rows, doubt, wrong) | _rates("_top1", beta, best, doubt, wrong)
    metrics["excess"] = excess(metrics)
    entropy = -torch.special.xlogy(p, p).sum(1, keepdim=True).expand_as(p)
    scores = {"confidence": -doubt, "likelihood": p, "entropy": -entropy}
    return metrics | rules(
        {name: score.flatten() for name, score in scores.items()},
        wrong.flatten(),
        mass.flatten(),
        metrics[f"answered_{MATCHED:g}"],
    )


def filtered(mass: Tensor, doubt: Tensor, wrong: Tensor) -> dict[str, float]:
    """Return rates and bounds when every answer is given, and when only answers of little doubt are.

    Args:
        mass: the probability of each answer, 1 in all.
        doubt: 1 − C of each.
        wrong: 1 where an answer is impossible.
    """
    metrics = {"hallucination": float((mass * wrong).sum()), "bound": float((mass * doubt).sum())}
    for beta in DOUBTS:
        metrics |= _rates("", beta, mass * (doubt <= beta), doubt, wrong)
    return metrics


def excess(metrics: dict[str, float]) -> float:
    """Return by how much the rate of impossible answers exceeds its bound, at worst; below 0 where it never does."""
    at = ["", *(f"{mode}_{beta:g}" for mode in ("", "_reject", "_top1") for beta in BOUNDED)]
    return max(metrics[f"hallucination{x}"] - metrics[f"bound{x}"] for x in at if f"hallucination{x}" in metrics)


def _rates(mode: str, beta: float, given: Tensor, doubt: Tensor, wrong: Tensor) -> dict[str, float]:
    answered = float(given.sum())
    metrics = {f"answered{mode}_{beta:g}": answered}
    if answered > 0:
        metrics[f"hallucination{mode}_{beta:g}"] = float((given * wrong).sum()) / answered
        metrics[f"bound{mode}_{beta:g}"] = float((given * doubt).sum()) / answered
    return metrics


def rules(scores: dict[str, Tensor], wrong: Tensor, mass: Tensor, share: float) -> dict[str, float]:
    """Return how well scores tell impossible answers from others, and how far ahead of the others confidence is.

    For each score there are the area under the ROC, and the rate of impossible answers in the share that it rates best;
    not where all answers are of one kind, or none is given.
    """
    metrics = {}
    for name, score in scores.items():
        if 0 < float((mass * wrong).sum()) < float(mass.sum()):
            metrics[f"auroc_{name}"] = auroc(score, 1 - wrong, mass)
        if share > 0:
            curve = risk_coverage(score, wrong, mass)
            at = int(torch.searchsorted(curve.coverage, share - 1e-12).clamp(max=len(curve.risk) - 1))
            metrics[f"matched_{name}"] = float(curve.risk[at])
    for name in set(scores) - {"confidence"}:
        for measure, sign in (("auroc", 1), ("matched", -1)):
            if f"{measure}_{name}" in metrics:
                ahead = metrics[f"{measure}_confidence"] - metrics[f"{measure}_{name}"]
                metrics[f"{measure}_ahead_of_{name}"] = sign * ahead
    return metrics
