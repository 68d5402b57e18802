"""Two numbers of a network read as a Gaussian, and the negative log-likelihood that trains them.

    σ = softplus(max(s, −5)),    ℓ = ½ log 2π + log σ + ½ ((y − μ)/σ)²

for raw outputs (μ, s). So σ ≥ softplus(−5) = 0.0067, without a bound above. Below s = −5 the derivative in s is zero,
at −5 it is not. With |y − μ| ~ 100 at the floor ℓ reaches 10⁸, too much for half precision: it is in float32 at least.

U. Özalp, arXiv 2601.00737, section 4 and the official code.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

LOWEST = -5.0
_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)


def gaussian_head(
    raw: Float[Tensor, "*batch twice"],
) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch dim"]]:
    """Return mean and standard deviation of raw outputs: the first half, and softplus(max(s, −5)) of the second half.

    They are in float32 at least, as what is made of them has to be.

    Raises:
        ValueError: if the last dimension is odd.
    """
    if raw.shape[-1] % 2:
        raise ValueError(f"raw must have an even last dimension, means and then deviations, got {tuple(raw.shape)}")
    if raw.dtype in (torch.float16, torch.bfloat16):
        raw = raw.float()
    mean, s = raw.chunk(2, -1)
    return mean, F.softplus(s.clamp(min=LOWEST))


def gaussian_nll(
    raw: Float[Tensor, "*batch twice"], target: Float[Tensor, "*batch dim"]
) -> Float[Tensor, "*batch dim"]:
    """Return the negative log-likelihood of each target, in nats.

    Args:
        raw: means μ, then s of the deviations.
        target: y, half as wide. It is a constant for the gradient only if the caller detached it.

    Raises:
        ValueError: if ``target`` is not half as wide as ``raw``.
    """
    mean, std = gaussian_head(raw)
    if target.shape != mean.shape:
        raise ValueError(f"target must have shape {tuple(mean.shape)}, half of raw, got {tuple(target.shape)}")
    return _HALF_LOG_TAU + std.log() + 0.5 * ((target - mean) / std).square()
