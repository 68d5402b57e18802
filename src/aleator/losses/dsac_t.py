"""The critic's loss of DSAC-T: a Gaussian of the whole return, whose gradients are set rather than derived.

    ∂/∂μ = −c (y − μ)/(σ² + ε),    ∂/∂σ = −c ((μ − ȳ)² − σ²)/(σ³ + ε),    c = b² + ε,  ε = 0.1

per sample, over the batch's size. y is the target of the mean, made with the mean of the next state's smaller critic;
ȳ, the target of the deviation, with a sample of it, and clamped to μ ± 3b. b is a running mean of the deviation, so
that the scale of the rewards does not set the step.

J. Duan et al., "Distributional Soft Actor-Critic with Three Refinements", arXiv 2310.05858, section IV.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def dsac_t_loss(
    mean: Float[Tensor, "*batch"],
    std: Float[Tensor, "*batch"],
    target: Float[Tensor, "*batch"],
    sampled_target: Float[Tensor, "*batch"],
    scale: float | Float[Tensor, ""],
    *,
    bound: float = 3.0,
    eps: float = 0.1,
) -> Float[Tensor, ""]:
    """Return a number whose gradients in ``mean`` and ``std`` are those above; its own value means nothing.

    Args:
        mean: μ.
        std: σ, positive.
        target: y.
        sampled_target: ȳ before it is clamped.
        scale: b, positive.
        bound: how many b the clamp allows.
        eps: ε.

    Raises:
        ValueError: if shapes differ.
    """
    for name, tensor in (("std", std), ("target", target), ("sampled_target", sampled_target)):
        if tensor.shape != mean.shape:
            raise ValueError(f"{name} must have the shape of mean, {tuple(mean.shape)}, got {tuple(tensor.shape)}")
    mu, sigma = mean.detach(), std.detach()
    error = target.detach() - mu
    limit = torch.as_tensor(bound * scale, dtype=mu.dtype, device=mu.device)
    spread = (sampled_target.detach() - mu).clamp(-limit, limit).square() - sigma.square()
    toward_mean = error / (sigma.square() + eps)
    toward_std = spread / (sigma.pow(3) + eps)
    return -(scale**2 + eps) * (toward_mean * mean + toward_std * std).mean()
