"""Scores of cheating: how much likelier an answer becomes to a model once the model was shown that answer.

Let p₁(y) be the probability of y as a first response, and p₂(y | y) as a second one after the model has seen y as the
first. With the gain g = log p₂(y | y) − log p₁(y):

    V(y) = p₁ (p₂ − p₁) = p₁² (eᵍ − 1)           cheat-corrected epistemic variance
    C(y) = p₁ / p₂      = e⁻ᵍ                    cheat-corrected epistemic confidence

A model that knows the distribution of the answers gains nothing: V = 0 and C = 1. Everything is computed from g, since
p₁p₂ underflows for sequences and p₂ − p₁ loses its digits where both are near 1.

D. D. Johnson, D. Tarlow, D. Duvenaud, C. J. Maddison, "Experts Don't Cheat: Learning What You Don't Know By Predicting
Pairs", ICML 2024, arXiv 2402.08733, section 3.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor


class CheatScores(NamedTuple):
    """Scores of answers, each of the shape of the log-probabilities.

    Attributes:
        variance: V. Raw values are below 0 where seeing an answer made it less likely, which a calibrated model never
            does; clipped ones are at least 0.
        confidence: C, not negative. Raw values are above 1 where V is below 0; clipped ones are at most 1.
        log_variance: log V, finite also where V underflows: −inf where V is 0, and without clipping not a number where
            V is below 0.
    """

    variance: Tensor
    confidence: Tensor
    log_variance: Tensor


def cheat_scores(
    logp1: float | Float[Tensor, "*shape"], logp2: float | Float[Tensor, "*shape"], clip: bool = False
) -> CheatScores:
    """Return variance and confidence of answers from two log-probabilities each, which may come from anywhere.

    Args:
        logp1: log p₁(y), at most 0, −inf where y is impossible: there C = 0 and V = 0. A number is taken in float64.
        logp2: log p₂(y | y), of the same shape.
        clip: whether V is raised to 0 and C lowered to 1.

    Returns:
        The scores, in the precision of the arguments and at least in float32.

    Raises:
        ValueError: if the shapes differ.

    Example:
        >>> cheat_scores(torch.tensor([-700.0]), torch.tensor([-699.0])).confidence
        tensor([0.3679])
    """
    logp1, logp2 = (v if isinstance(v, Tensor) else torch.tensor(v, dtype=torch.float64) for v in (logp1, logp2))
    if logp1.shape != logp2.shape:
        raise ValueError(
            f"logp1 and logp2 must have one shape, got shapes {tuple(logp1.shape)} and {tuple(logp2.shape)}"
        )
    dtype = torch.promote_types(torch.promote_types(logp1.dtype, logp2.dtype), torch.float32)
    first, second = logp1.to(dtype), logp2.to(dtype)
    impossible = first == -torch.inf
    gain = torch.where(impossible, 0.0, second - first)
    if clip:
        gain = gain.clamp(min=0)
    up, down = gain.clamp(min=0), gain.clamp(max=0)
    # One of the two terms is 0. For a loss, p₂ < p₁, the first form would be 0 · ∞ where p₂ = 0.
    variance = -torch.exp(first + second) * torch.expm1(-up) + torch.exp(2 * first) * torch.expm1(down)
    return CheatScores(
        torch.where(impossible, 0.0, variance),
        torch.where(impossible, 0.0, torch.exp(-gain)),
        torch.where(impossible, -torch.inf, first + second + torch.log(-torch.expm1(-gain))),
    )
