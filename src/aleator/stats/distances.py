"""Distances between two distributions, seen through samples.

    MMD²         E k(X,X') + E k(Y,Y') − 2 E k(X,Y),  k(x,y) = exp(−‖x−y‖²/(2ℓ²))         Gretton et al., JMLR 13, 2012
    energy       2 E‖X−Y‖ − E‖X−X'‖ − E‖Y−Y'‖, over all pairs, no root                    Székely and Rizzo, 2013
    W_p, d = 1   (∫₀¹ |F⁻¹(u) − G⁻¹(u)|^p du)^{1/p}, of quantile functions
    sliced W_p   (E_θ W_p^p(⟨θ,X⟩, ⟨θ,Y⟩))^{1/p}, θ uniform on the sphere               Bonneel et al., JMIV 51, 2015

They are computed in float64 and differentiable in both samples. Samples have shape (n, d), or (n,) for numbers. SciPy
has W₁ of numbers and the root of their energy distance, and the divergences of histograms; optimal transport in more
dimensions is POT's.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.stats.certify.certificate import checked_count

First = Float[Tensor, "n d"] | Float[Tensor, " n"]
Second = Float[Tensor, "m d"] | Float[Tensor, " m"]

_PAIRS_AT_ONCE = 2**24


def mmd2(x: First, y: Second, lengthscale: float, *, unbiased: bool = True) -> Float[Tensor, ""]:
    """Return the squared maximum mean discrepancy for the Gaussian kernel, in O(n²d) time.

    Args:
        x: samples of the first distribution.
        y: samples of the second one.
        lengthscale: ℓ, positive.
        unbiased: the U-statistic, which leaves out each sample's kernel with itself, has mean MMD² and can be negative;
            needs two samples of each. Otherwise the V-statistic, which is never negative.

    Raises:
        ValueError: if the lengthscale is not positive, or the samples do not fit.
    """
    if not 0 < lengthscale < math.inf:
        raise ValueError(f"lengthscale must be positive and finite, got {lengthscale}")
    x, y = _checked(x, y, least=2 if unbiased else 1)

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return _summed(a, b, lambda distance: (-distance.square() / (2 * lengthscale**2)).exp())

    own = []
    for z in (x, y):
        n = len(z)
        own.append((kernel(z, z) - n) / (n * (n - 1)) if unbiased else kernel(z, z) / n**2)  # k(z, z) = 1
    return own[0] + own[1] - 2 * kernel(x, y) / (len(x) * len(y))


def energy_distance(x: First, y: Second) -> Float[Tensor, ""]:
    """Return 2 E‖X−Y‖ − E‖X−X'‖ − E‖Y−Y'‖ over all pairs, in O(n²d) time: never negative, 0 for equal samples.

    Raises:
        ValueError: if the samples do not fit.
    """
    x, y = _checked(x, y)
    across, first, second = (_summed(a, b, lambda d: d) / (len(a) * len(b)) for a, b in ((x, y), (x, x), (y, y)))
    return 2 * across - first - second


def wasserstein_1d(x: Float[Tensor, " n"], y: Float[Tensor, " m"], p: float = 1.0) -> Float[Tensor, ""]:
    """Return W_p of two samples of numbers, which may differ in size, in O(n log n) time.

    Raises:
        ValueError: if p is below 1, or the samples do not fit.
    """
    _check_order(p)
    x, y = _checked(x, y)
    if x.shape[1] != 1:
        raise ValueError(f"x and y must be numbers, got {x.shape[1]} of them per sample: take sliced_wasserstein")
    return _root(_power(x, y, p).squeeze(), p)


def sliced_wasserstein(
    x: First, y: Second, p: float = 2.0, directions: SupportsIndex = 100, *, generator: torch.Generator
) -> Float[Tensor, ""]:
    """Return the sliced W_p over random directions.

    Args:
        x: samples of the first distribution.
        y: samples of the second one, as many or not.
        p: order, at least 1.
        directions: number of them, at least 1.
        generator: for the directions, on the device of the samples.

    Raises:
        ValueError: if an argument is out of range, or the samples do not fit.
    """
    _check_order(p)
    directions = checked_count("directions", directions, 1)
    x, y = _checked(x, y)
    normal = torch.randn(x.shape[1], directions, generator=generator, dtype=x.dtype, device=x.device)
    theta = normal / torch.linalg.vector_norm(normal, dim=0)
    return _root(_power(x @ theta, y @ theta, p).mean(), p)


def _power(x: Tensor, y: Tensor, p: float) -> Tensor:
    """Return W_p^p of every column."""
    x, y = x.sort(0).values, y.sort(0).values
    n, m = len(x), len(y)
    if n == m:
        return (x - y).abs().pow(p).mean(0)
    # Both quantile functions are constant between the multiples of 1/n and 1/m, counted here in units of 1/(nm).
    ends = torch.cat([torch.arange(1, n + 1) * m, torch.arange(1, m + 1) * n]).sort().values.to(x.device)
    widths = ends.diff(prepend=ends.new_zeros(1))
    of_x, of_y = (ends - 1) // m, (ends - 1) // n
    power: Tensor = (widths[:, None] * (x[of_x] - y[of_y]).abs().pow(p)).sum(0) / (n * m)
    return power


def _root(power: Tensor, p: float) -> Tensor:
    if p == 1:
        return power
    apart = power > 0  # the root has no derivative at 0; equal samples get one of 0
    return torch.where(apart, torch.where(apart, power, 1.0).pow(1 / p), 0.0)


def _summed(a: Tensor, b: Tensor, of_distance: Callable[[Tensor], Tensor]) -> Tensor:
    """Sum a function of the distance over all pairs, a block of rows at a time."""
    rows = max(1, _PAIRS_AT_ONCE // len(b))
    # The distance by matrix products is a difference of large numbers where points are close.
    exact = "donot_use_mm_for_euclid_dist"
    return sum(
        (of_distance(torch.cdist(part, b, compute_mode=exact)).sum() for part in torch.split(a, rows)), a.new_zeros(())
    )


def _check_order(p: float) -> None:
    if not 1 <= p < math.inf:
        raise ValueError(f"p must be at least 1 and finite, got {p}")


def _checked(x: Tensor, y: Tensor, least: int = 1) -> tuple[Tensor, Tensor]:
    """Return both samples with shape (n, d), in float64."""
    both = []
    for name, z in (("x", x), ("y", y)):
        z = z.double().unsqueeze(1) if z.ndim == 1 else z.double()
        if z.ndim != 2 or len(z) < least or z.shape[1] < 1:
            raise ValueError(f"{name} must have shape (n, d) or (n,) with n at least {least}, got {tuple(z.shape)}")
        if not bool(z.isfinite().all()):
            raise ValueError(f"{name} must be finite, got nan or infinity")
        both.append(z)
    if both[0].shape[1] != both[1].shape[1]:
        raise ValueError(f"x and y must have the same dimension, got {both[0].shape[1]} and {both[1].shape[1]}")
    return both[0], both[1]
