"""Diagnostics of chains: whether they have mixed, and how many independent draws they are worth.

For m chains of n draws, W is the mean of the chains' variances and B/n the variance of their means; then

    R̂ = √(((n−1)/n · W + B/n)/W)         of the 2m halves: a chain that still drifts disagrees with itself
    ESS = mn/(1 + 2 Σ ρ_t),  ρ_t = 1 − (W − mean autocovariance at lag t)/var⁺,  var⁺ = (n−1)/n · W + B/n

The sum runs over pairs ρ_{2t} + ρ_{2t+1} while they are positive, made to decrease (Geyer's initial monotone sequence).
Neither can see what no chain has visited.

Gelman and Rubin, Statistical Science 7, 1992; Gelman et al., Bayesian Data Analysis, 3rd ed. 2013, section 11.4, for
the halves and for ESS over chains; Geyer, Statistical Science 7, 1992. R̂ is not of ranks (Vehtari et al. 2021).
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def split_rhat(chains: Float[Tensor, "m n"]) -> float:
    """Return R̂ of one number over several chains; below about 1.01 to 1.1 they may have mixed.

    Args:
        chains: n ≥ 4 draws of each of m ≥ 1 chains. The middle draw of an odd number is left out.

    Returns:
        R̂, infinite where the draws of every half are all equal: what does not move has not mixed.

    Raises:
        ValueError: if there are too few draws, or one is not finite.
    """
    chains = _checked(chains)
    half = chains.shape[1] // 2
    halves = torch.cat([chains[:, :half], chains[:, -half:]])
    within, total = _variances(halves)
    return math.sqrt(total / within) if within > 0 else math.inf


def effective_sample_size(chains: Float[Tensor, "m n"]) -> float:
    """Return how many independent draws estimate the mean of one number as well as all chains together do.

    Args:
        chains: n ≥ 4 draws of each of m ≥ 1 chains.

    Returns:
        A number of draws, more than mn where successive draws are on opposite sides of the mean, and at most
        mn log₁₀(mn); 0 where no chain moves.

    Raises:
        ValueError: if there are too few draws, or one is not finite.
    """
    chains = _checked(chains)
    m, n = chains.shape
    within, total = _variances(chains)
    if not within > 0:
        return 0.0
    rho = 1 - (within - _autocovariance(chains).mean(0)) / total
    rho[0] = 1
    pairs = rho[: n - n % 2].view(-1, 2).sum(1)
    positive = int((pairs > 0).long().cumprod(0).sum())
    tau = float(2 * pairs[:positive].cummin(0).values.sum()) - 1
    return m * n / max(tau, 1 / math.log10(m * n))


def _checked(chains: Tensor) -> Tensor:
    if chains.ndim != 2 or chains.shape[0] < 1 or chains.shape[1] < 4:
        raise ValueError(f"chains must have shape (chains, draws) with at least 4 draws, got {tuple(chains.shape)}")
    chains = chains.detach().double()
    if not bool(chains.isfinite().all()):
        raise ValueError("chains must be finite, got nan or infinity: a chain has diverged")
    return chains


def _variances(chains: Tensor) -> tuple[float, float]:
    """Return W and var⁺."""
    m, n = chains.shape
    within = float(chains.var(1).mean())
    between = float(chains.mean(1).var()) if m > 1 else 0.0
    return within, (n - 1) / n * within + between


def _autocovariance(chains: Tensor) -> Tensor:
    """Return the autocovariances of every chain, with divisor n, at lags 0 to n − 1."""
    n = chains.shape[1]
    centred = chains - chains.mean(1, keepdim=True)
    spectrum = torch.fft.rfft(centred, 2 * n)  # padded, so that the ends do not meet
    products: Tensor = torch.fft.irfft(spectrum.abs().square(), 2 * n)[:, :n]
    return products / n
