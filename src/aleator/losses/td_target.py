"""Targets of temporal differences with entropy, and with pessimism about one-step noise.

    y = r + γ (1 − terminated) (v − α log π),        v = μ − β σ

A state that ended has no value and no entropy either. An episode that was cut off (truncated) is no end: it goes on.
σ is the spread of the target itself over transitions and the moving policy, and is not propagated.

U. Özalp, arXiv 2601.00737, Algorithm 1; with β = 0 the soft target of T. Haarnoja et al., arXiv 1812.05905, equation 3.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def td_target(
    r: Float[Tensor, "*batch"],
    term: Bool[Tensor, "*batch"],
    value: Float[Tensor, "*batch"],
    logp: Float[Tensor, "*batch"],
    gamma: float | Tensor,
    alpha: float | Tensor,
) -> Float[Tensor, "*batch"]:
    """Return r + γ (value − α log π), or r where the episode terminated.

    Args:
        r: rewards.
        term: whether the transition ended in a terminal state; not where it was cut off.
        value: of the next state and action.
        logp: log π of the next action.
        gamma: discount in [0, 1); a tensor must fit the batch.
        alpha: temperature; a tensor must fit the batch.

    Raises:
        ValueError: if ``term`` is not boolean or shapes differ.
    """
    if term.dtype != torch.bool:
        raise ValueError(f"term must be boolean, got {term.dtype}")
    for name, tensor in (("term", term), ("value", value), ("logp", logp)):
        if tensor.shape != r.shape:
            raise ValueError(f"{name} must have the shape of r, {tuple(r.shape)}, got {tuple(tensor.shape)}")
    return r + gamma * (value - alpha * logp).masked_fill(term, 0.0)


def pessimistic_td_target(
    r: Float[Tensor, "*batch"],
    term: Bool[Tensor, "*batch"],
    mean: Float[Tensor, "*batch"],
    std: Float[Tensor, "*batch"],
    logp: Float[Tensor, "*batch"],
    gamma: float | Tensor,
    alpha: float | Tensor,
    beta: float | Tensor,
) -> Float[Tensor, "*batch"]:
    """Return r + γ (mean − β std − α log π), or r where the episode terminated.

    Args:
        r: rewards.
        term: whether the transition ended in a terminal state; not where it was cut off.
        mean: μ of the target critic at the next state and action.
        std: σ of it.
        logp: log π of the next action.
        gamma: discount in [0, 1).
        alpha: temperature.
        beta: deviations that are subtracted, not negative.

    Raises:
        ValueError: if ``term`` is not boolean or shapes differ.
    """
    if std.shape != mean.shape:
        raise ValueError(f"std must have the shape of mean, {tuple(mean.shape)}, got {tuple(std.shape)}")
    return td_target(r, term, mean - beta * std, logp, gamma, alpha)
