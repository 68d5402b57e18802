"""The variance of a batch gradient under temperature sampling, scalarization and quotas.

All three estimate μ = Σ p_i μ_i without bias. With G_i = E_i‖g‖², V_i = G_i − ‖μ_i‖² and w_i = p_i(τ)/p_i(1), the trace
of the covariance of the mean gradient of B examples is

    temperature sampling, every slot by itself     (Σ p_i G_i − ‖μ‖²) / B  =  (Σ p_i V_i + Σ p_i ‖μ_i − μ‖²) / B
    scalarization, every slot by itself            (Σ p_i w_i G_i − ‖μ‖²) / B
    quotas                                         Σ p_i V_i / B + E‖Σ (c_i − B p_i) μ_i‖² / B²

Quotas remove the part between domains but for rounding, the last term, which is computed exactly over a uniform offset.
The paper's Theorem 2 says that temperature sampling is never noisier than scalarization. Its proof takes the second
moment out of the sum over domains, so it needs the *same G_i in every domain*: where large domains have clearly larger
gradients the order is reversed. Hence this measures.

Each variance is linear in G and the products μ_i·μ_j, so differences have standard errors of first order too. Examples
within a domain are taken to be drawn with replacement.

T. Li et al., "Upsample or Upweight? Balanced Training on Heavily Imbalanced Datasets", NAACL 2025, arXiv 2410.04579,
Theorem 2; quotas are ours.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float64
from torch import Tensor

from aleator.gradients.domain_moments import GradientMoments

Sampling = Literal["temperature", "scalarization", "quota"]
SAMPLINGS: tuple[Sampling, ...] = ("temperature", "scalarization", "quota")

_ROUNDING = 1e-9  # relative: two ways that are equal do not differ by the last bits of their sums

_Domains = Float64[Tensor, " domains"]
_Products = Float64[Tensor, "domains domains"]


def batch_gradient_variance(
    probabilities: _Domains, weights: _Domains, second: _Domains, products: _Products, batch_size: int
) -> dict[Sampling, float]:
    """Return the trace of the covariance of a batch's mean gradient, for each way to sample.

    Args:
        probabilities: p_i.
        weights: w_i, scalarization's; it draws in proportion p_i / w_i.
        second: G_i.
        products: μ_i·μ_j, or zeros for second moments about 0 with B = 1.
        batch_size: B.

    Raises:
        ValueError: if the batch size is below 1 or shapes do not fit.
    """
    return {
        sampling: float(linear @ second + (bilinear * products).sum())
        for sampling, (linear, bilinear) in _coefficients(probabilities, weights, batch_size).items()
    }


@dataclass(frozen=True)
class VarianceForecast:
    """What `forecast_variance` says.

    Attributes:
        variance: of a batch's mean gradient, for each way to sample.
        differences: for each pair of ways (a, b), variance a − variance b and its standard error.
        least: the way with the least variance, or ``"undecided"`` if another is within the error.
    """

    variance: dict[Sampling, float]
    differences: dict[tuple[Sampling, Sampling], tuple[float, float]]
    least: Literal["temperature", "scalarization", "quota", "undecided"]


def forecast_variance(
    probabilities: _Domains, weights: _Domains, moments: GradientMoments, batch_size: int, errors: float = 2.0
) -> VarianceForecast:
    """Return which way to sample has the least variance, here, and whether the sample of examples was enough to say so.

    Args:
        probabilities: p_i.
        weights: w_i.
        moments: measured by `GradientMomentProbe`, of the domains in this order.
        batch_size: B.
        errors: how many standard errors a difference must exceed.

    Raises:
        ValueError: if the batch size is below 1 or shapes do not fit.
    """
    variance = batch_gradient_variance(probabilities, weights, moments.second, moments.products, batch_size)
    coefficients = _coefficients(probabilities, weights, batch_size)
    differences: dict[tuple[Sampling, Sampling], tuple[float, float]] = {}
    for a, b in itertools.permutations(SAMPLINGS, 2):
        linear, bilinear = (x - y for x, y in zip(coefficients[a], coefficients[b], strict=True))
        # An example x of domain i moves the estimate by linear_i·‖g‖² + 2 Σ_j bilinear_ij·g·μ_j.
        slopes = torch.cat([linear[:, None], 2 * bilinear], dim=1)
        square = torch.einsum("if,ifg,ig->", slopes, moments.covariance, slopes)
        differences[a, b] = (variance[a] - variance[b], float(square.clamp(min=0).sqrt()))
    least = min(SAMPLINGS, key=variance.__getitem__)
    decided = all(
        more > errors * error + _ROUNDING * variance[a] for (a, b), (more, error) in differences.items() if b == least
    )
    return VarianceForecast(variance, differences, least if decided else "undecided")


def _coefficients(p: _Domains, w: _Domains, batch_size: int) -> dict[Sampling, tuple[Tensor, Tensor]]:
    """Return (a, b) of each variance Σ a_i G_i + Σ b_ij μ_i·μ_j."""
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    if p.ndim != 1 or p.shape != w.shape:
        raise ValueError(
            f"probabilities and weights must have one entry for each domain, got shapes {tuple(p.shape)}, "
            f"{tuple(w.shape)}"
        )
    mean = -torch.outer(p, p) / batch_size
    rounding = _rounding_covariance(p, batch_size) / batch_size**2
    return {
        "temperature": (p / batch_size, mean),
        "scalarization": (p * w / batch_size, mean),
        "quota": (p / batch_size, rounding - torch.diag(p) / batch_size),
    }


def _rounding_covariance(p: _Domains, batch_size: int) -> _Products:
    """Return the covariance of c_i = ⌊B·P_{i+1} + φ⌋ − ⌊B·P_i + φ⌋ over a uniform φ, piece by piece."""
    cumulative = p.cumsum(0)
    boundaries = torch.cat([p.new_zeros(1), cumulative / cumulative[-1]]) * batch_size
    jumps = torch.cat([p.new_zeros(1), (1 - boundaries.frac()).sort().values, p.new_ones(1)])
    middles, lengths = (jumps[1:] + jumps[:-1]) / 2, jumps.diff()
    excess = (boundaries + middles[:, None]).floor().diff(dim=1) - batch_size * p
    return (excess * lengths[:, None]).T @ excess
