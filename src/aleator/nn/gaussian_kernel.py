"""The Gaussian kernel and ridge regression with it: the exact solution that random features approximate.

    k(x, y) = exp(−‖x − y‖²/(2ℓ²)),      f(x) = Σ αᵢ k(x, xᵢ),   (K + λnI) α = y

α minimises (1/n) Σ (f(xᵢ) − yᵢ)² + λ‖f‖² over the kernel's Hilbert space. The cost is O(n³): for n up to some
thousands.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor


def gaussian_kernel(
    x: Float[Tensor, "*batch n d"], y: Float[Tensor, "*batch m d"], lengthscale: float
) -> Float[Tensor, "*batch n m"]:
    """Return exp(−‖x − y‖²/(2ℓ²)) of all pairs, 1 exactly where x = y.

    Args:
        x: points.
        y: other points of the same dimension.
        lengthscale: ℓ, positive.

    Raises:
        ValueError: if the lengthscale is not positive.
    """
    check_lengthscale(lengthscale)
    # By matrix products the distance of close points would be a difference of large numbers.
    distance = torch.cdist(x / lengthscale, y / lengthscale, compute_mode="donot_use_mm_for_euclid_dist")
    return (-distance.square() / 2).exp()


def kernel_ridge(kernel: Float[Tensor, "n n"], y: Float[Tensor, n * outputs], lam: float) -> Float[Tensor, n * outputs]:
    """Return the α that solves (K + λnI) α = y, by Cholesky's factorisation.

    Args:
        kernel: K, symmetric and positive semi-definite; float64 where λn is small beside its largest eigenvalue.
        y: targets.
        lam: λ, positive.

    Raises:
        ValueError: if λ is not positive, or too small for K + λnI to be positive definite in its precision.
    """
    if not 0 < lam < math.inf:
        raise ValueError(f"lam must be positive and finite, got {lam}")
    n = len(kernel)
    factor, failed = torch.linalg.cholesky_ex(kernel + lam * n * torch.eye(n, dtype=kernel.dtype, device=kernel.device))
    if bool(failed):
        raise ValueError(
            f"lam must be large enough for K + lam·n·I to be positive definite in {kernel.dtype}, got {lam}"
        )
    return torch.cholesky_solve(y.reshape(n, -1), factor).view(y.shape)


def check_lengthscale(lengthscale: float) -> None:
    """Check ℓ.

    Raises:
        ValueError: if it is not positive and finite.
    """
    if not 0 < lengthscale < math.inf:
        raise ValueError(f"lengthscale must be positive and finite, got {lengthscale}")
