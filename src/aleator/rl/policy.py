"""The policy's head: a Gaussian squashed into [−1, 1] by tanh, with its density.

    u = m + σ ε,    a = tanh(u),    log π(a) = Σ_d [ log N(u; m, σ) − 2 (log 2 − u − softplus(−2u)) ]

The density is always computed from u, never from atanh(a), which is infinite as soon as a rounds to ±1. m and σ come
from raw outputs as a critic's do, see `aleator.losses.gaussian_head`.

T. Haarnoja et al., arXiv 1812.05905, appendix C; head as in the official code of STAC.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from aleator.losses import gaussian_head

_HALF_LOG_TAU = 0.5 * math.log(2 * math.pi)
_LOG_2 = math.log(2.0)


def squashed_gaussian(
    raw: Float[Tensor, "*batch twice"], eps: Float[Tensor, "*batch dim"]
) -> tuple[Float[Tensor, "*batch dim"], Float[Tensor, "*batch"]]:
    """Return an action in [−1, 1] and the log-density of it, summed over its coordinates, in nats.

    Args:
        raw: the policy's outputs, means and then s of the deviations.
        eps: standard normal noise. Zeros give the action of the mean, and the density there.

    Raises:
        ValueError: if ``eps`` is not half as wide as ``raw``.
    """
    mean, std = gaussian_head(raw)
    if eps.shape != mean.shape:
        raise ValueError(f"eps must have shape {tuple(mean.shape)}, half of raw, got {tuple(eps.shape)}")
    eps = eps.to(torch.promote_types(eps.dtype, mean.dtype))
    u = torch.addcmul(mean, std, eps)
    # 2 (log 2 − u − softplus(−2u)) is log(1 − tanh²(u)); numbers that do not depend on u are added at the end.
    terms = 0.5 * eps.square() + std.log() - 2 * (u + F.softplus(-2 * u))
    return torch.tanh(u), -(terms.sum(-1) + raw.shape[-1] // 2 * (_HALF_LOG_TAU + 2 * _LOG_2))
