"""Learning rates, momentum and damping that a curvature allows.

On a quadratic with largest eigenvalue λ' gradient descent is stable for α < 2/λ', heavy-ball momentum ρ for
α < 2(1 + ρ)/λ', Nesterov's for α < 2(1 + ρ)/((1 + 2ρ) λ'). A batch sees λ' = λ + c/(bλ), see
`aleator.optim.curvature.broadening`, so that for SGD

    α_max(B) = 2/(λ + c/(bλ)) = α_∞/(1 + B_c/b),    α_∞ = 2/λ,    B_c = c/λ²:

linear in small batches, and no more than α_∞ in large ones. With noise of independent entries the spike is lost below
B_c, and 2/λ' goes as √b there (``bulk=True``); real noise is of low rank and follows the law far below it.

The best heavy ball on eigenvalues in [μ, λ] has α = 4/(√λ + √μ)², ρ = ((√λ − √μ)/(√λ + √μ))², and its error falls as √ρ
per step (B. T. Polyak, 1964). The minimal damping is a reconstruction from first principles; see the card.

D. Granziol, S. Zohren and S. Roberts, JMLR 23, 2022, arXiv 2006.09092.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.optim.curvature.broadening import broadened
from aleator.optim.scaling import effective_batch


class Shrinkage(NamedTuple):
    """What `shrinkage_damping` found.

    Attributes:
        damping: δ; infinite where the batch says nothing.
        weight: a, of the batch's curvature against a multiple of the identity.
    """

    damping: float
    weight: float


def max_lr(
    lmbda: float,
    c: float,
    batch: float,
    n: int | None = None,
    momentum: float = 0.0,
    nesterov: bool = False,
    bulk: bool = False,
) -> float:
    """Return the largest stable learning rate of SGD at a batch size; the best one is 2 to 4 times smaller.

    λ from Lanczos' algorithm is a lower bound, and so this is an upper one.

    Args:
        lmbda: λ, the largest eigenvalue of the whole data's curvature.
        c: the batch noise, from `fit_broadening`; 0 for none.
        batch: B.
        n: N; None for a stream.
        momentum: ρ, in [0, 1).
        nesterov: whether momentum is Nesterov's.
        bulk: follow the edge of independent noise below B_c instead of the law.

    Raises:
        ValueError: if λ is not positive, or another value out of range.

    Example:
        >>> max_lr(10.0, 0.0, 64), max_lr(10.0, 3200.0, 32), max_lr(10.0, 0.0, 64, momentum=0.9)
        (0.2, 0.1, 0.38)
    """
    if not 0 < lmbda < math.inf:
        raise ValueError(f"lmbda must be positive and finite, got {lmbda}")
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    factor = 2 * (1 + momentum) / (1 + 2 * momentum if nesterov else 1)
    seen = broadened(lmbda, c, batch, n)  # refuses what is out of range
    return factor / (seen if bulk else lmbda + c / effective_batch(batch, n) / lmbda)


def heavy_ball(lmbda: float, mu: float) -> tuple[float, float]:
    """Return (α, ρ), the best learning rate and momentum on a quadratic with eigenvalues in [μ, λ].

    Args:
        lmbda: λ.
        mu: μ, in [0, λ].

    Raises:
        ValueError: if a value is out of range.

    Example:
        >>> heavy_ball(9.0, 1.0)
        (0.25, 0.25)
    """
    if not 0 < lmbda < math.inf:
        raise ValueError(f"lmbda must be positive and finite, got {lmbda}")
    if not 0 <= mu <= lmbda:
        raise ValueError(f"mu must be in [0, {lmbda}], lmbda, got {mu}")
    total = math.sqrt(lmbda) + math.sqrt(mu)
    return 4 / total**2, ((lmbda - mu) / total**2) ** 2


def min_damping(alpha: float, batch: float, c: float, lmbda: float, n: int | None = None) -> float:
    """Return δ ≥ αc/(2bλ), the damping below which noise in the curvature makes a preconditioned step unstable.

    Args:
        alpha: the learning rate.
        batch: B.
        c: the batch noise, from `fit_broadening`.
        lmbda: λ.
        n: N; None for a stream.

    Raises:
        ValueError: if a value is out of range.
    """
    if not 0 <= alpha < math.inf:
        raise ValueError(f"alpha must be finite and not negative, got {alpha}")
    if not 0 <= c < math.inf:
        raise ValueError(f"c must be finite and not negative, got {c}")
    if not 0 < lmbda < math.inf:
        raise ValueError(f"lmbda must be positive and finite, got {lmbda}")
    return alpha * c / (2 * lmbda) / effective_batch(batch, n)


def shrinkage_damping(
    products: Float[Tensor, "draws parameters"],
    probe: Float[Tensor, " parameters"],
    batch: float,
    n: int,
    lr: float = 0.0,
    previous: float | None = None,
) -> Shrinkage:
    """Return the damping by linear shrinkage of the curvature towards a multiple of the identity.

    With a random z of length one, h_j = H_j z over batches and h their mean, V the mean of ‖h_j − h‖², μ = zᵀh and
    D = ‖h − μz‖²:  a = 1 − (B/N) V/D,  δ = (1 − a)/a + lr. Where a ≤ 0 the damping is infinite: keep the one you have.

    Args:
        products: h_j.
        probe: z.
        batch: B.
        n: N.
        lr: added to δ.
        previous: the weight of the last time; the mean of both is used.

    Raises:
        ValueError: if there are fewer than two products, z is not of length one, or a value is out of range.
    """
    effective_batch(batch, n)
    if len(products) < 2:
        raise ValueError(f"products must be of at least two batches, got {len(products)}")
    z, h = probe.double(), products.double()
    length = float(torch.linalg.vector_norm(z))
    if not abs(length - 1) < 1e-5:
        raise ValueError(f"probe must have length 1, got {length}")
    mean = h.mean(0)
    spread = float((h - mean).square().sum(1).mean())
    away = float((mean - torch.dot(z, mean) * z).square().sum())
    noise = batch / n * spread
    weight = 1 - noise / away if away > 0 else 1.0 if noise == 0 else -math.inf
    if previous is not None:
        weight = (previous + weight) / 2
    return Shrinkage((1 - weight) / weight + lr if weight > 0 else math.inf, weight)
