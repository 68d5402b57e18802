"""PAC-Bayes: a bound for a network whose weights are drawn from a distribution that was fitted to the training data.

For a prior that was fixed before the n examples were seen and any posterior, with probability at least 1 − δ over the
examples the mean risk R of networks drawn from the posterior satisfies

    kl(R̂‖R) ≤ (KL(posterior‖prior) + ln(2√n/δ))/n,            n ≥ 8

whose inversion is `pac_bayes_kl`; by Pinsker's inequality R ≤ R̂ + √((KL + ln(2√n/δ))/(2n)), `pac_bayes_sqrt`. R̂ is
the mean risk on the examples. It is estimated from m pairs of a drawn network and a drawn example, and costs a bound of
its own:

    risk = accuracy_bound(wrong, m, delta/2, side="upper").bound
    pac_bayes_kl(risk, kl, n, delta/2)

Seeger, JMLR 3, 2002; Maurer, arXiv cs/0411099, 2004, Theorem 5; Langford and Caruana, NIPS 2001, for the estimate.
"""

from __future__ import annotations

import math
from typing import SupportsIndex

import torch
from torch import Tensor

from aleator.stats.certify.binary_kl import kl_upper
from aleator.stats.certify.certificate import checked_count, checked_delta


def pac_bayes_kl(empirical_risk: float, kl: float, n: SupportsIndex, delta: float = 0.05) -> float:
    """Return the largest R with kl(R̂‖R) ≤ (KL + ln(2√n/δ))/n.

    Args:
        empirical_risk: R̂ in [0, 1], the mean loss on the n examples of networks drawn from the posterior.
        kl: KL(posterior‖prior) in nats, not negative; `gaussian_kl` for Gaussians.
        n: examples, at least 8.
        delta: probability in (0, 1) that the bound may be wrong.

    Raises:
        ValueError: if an argument is out of range.
    """
    return kl_upper(float(empirical_risk), _complexity(empirical_risk, kl, n, delta))


def pac_bayes_sqrt(empirical_risk: float, kl: float, n: SupportsIndex, delta: float = 0.05) -> float:
    """Return R̂ + √((KL + ln(2√n/δ))/(2n)), at most 1: never below `pac_bayes_kl`. Arguments and errors are the same."""
    return min(1.0, float(empirical_risk) + math.sqrt(_complexity(empirical_risk, kl, n, delta) / 2))


def gaussian_kl(mean: Tensor, std: Tensor, prior_mean: Tensor | float, prior_std: Tensor | float) -> Tensor:
    """Return KL(N(μ, σ²)‖N(μ₀, σ₀²)) of independent coordinates, Σ ln(σ₀/σ) + (σ² + (μ−μ₀)²)/(2σ₀²) − ½, in nats.

    Args:
        mean: μ, of any shape.
        std: σ, positive, of a shape that broadcasts with the mean's.
        prior_mean: μ₀.
        prior_std: σ₀, positive.

    Returns:
        A float64 tensor without dimensions, differentiable in all four.

    Raises:
        ValueError: if a standard deviation is not positive and finite.
    """
    means = [torch.as_tensor(value).double() for value in (mean, prior_mean)]
    stds = [torch.as_tensor(value).double() for value in (std, prior_std)]
    for name, value in zip(("std", "prior_std"), stds, strict=True):
        if not bool(((value > 0) & value.isfinite()).all()):
            raise ValueError(f"{name} must be positive and finite, got {float(value.min()):g}")
    ratio, distance = stds[0] / stds[1], (means[0] - means[1]) / stds[1]
    return (-ratio.log() + (ratio.square() + distance.square() - 1) / 2).sum()


def _complexity(empirical_risk: float, kl: float, n: SupportsIndex, delta: float) -> float:
    if not 0 <= empirical_risk <= 1:
        raise ValueError(f"empirical_risk must be in [0, 1], got {empirical_risk}")
    if not 0 <= kl < math.inf:
        raise ValueError(f"kl must not be negative and must be finite, got {kl}")
    count = checked_count("n", n, 8)
    return (float(kl) + math.log(2 * math.sqrt(count) / checked_delta(delta))) / count
