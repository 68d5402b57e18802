"""Quantile regression with Huber's loss: a critic's N outputs become the quantiles of its targets.

    ℓ = mean over batch, i, j of |τ_i − 1[d_ij < 0]| h(d_ij),    d_ij = target_j − z_i,    τ_i = (2i + 1)/(2N)

with h(d) = ½ d² for |d| ≤ 1 and |d| − ½ beyond. The mean is over j *and* i; other authors sum over i.

W. Dabney et al., arXiv 1710.10044, equation 10; as in the DSAC of X. Ma et al., arXiv 2004.14547.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


def quantile_huber(quantiles: Float[Tensor, "*batch N"], targets: Float[Tensor, "*batch M"]) -> Float[Tensor, ""]:
    """Return the mean loss. Time and memory are those of all pairs, batch · N · M.

    Args:
        quantiles: z, in the order of their levels τ.
        targets: samples or quantiles, in any order; a constant for the gradient only if the caller detached them.

    Raises:
        ValueError: if the batches differ.
    """
    return quantile_huber_per_item(quantiles, targets).mean()


def quantile_huber_per_item(
    quantiles: Float[Tensor, "*batch N"], targets: Float[Tensor, "*batch M"]
) -> Float[Tensor, "*batch"]:
    """Return the loss of each item of the batch; otherwise as `quantile_huber`."""
    if quantiles.shape[:-1] != targets.shape[:-1]:
        raise ValueError(
            f"targets must have the batch of quantiles, {tuple(quantiles.shape[:-1])}, got {tuple(targets.shape[:-1])}"
        )
    count = quantiles.shape[-1]
    levels = (torch.arange(count, dtype=quantiles.dtype, device=quantiles.device) + 0.5) / count
    shape = (*quantiles.shape, targets.shape[-1])
    z, target = quantiles.unsqueeze(-1).expand(shape), targets.unsqueeze(-2).expand(shape)
    losses = F.huber_loss(z, target, reduction="none")
    weights = (levels.unsqueeze(-1) - (target < z).to(z.dtype)).abs()
    return (weights * losses).mean((-2, -1))
