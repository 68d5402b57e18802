"""Operators on the singular values of a matrix: the nuclear norm, low rank, and orthonormal columns.

    P diag(σ) Qᵀ  →  P diag(max(σ − tλ, 0)) Qᵀ,    P diag(σ_1 … σ_k, 0 …) Qᵀ,    P Qᵀ

Each takes a decomposition, O(mn·min(m, n)) and on a GPU a wait for the device: call them once in many steps. A tensor
of more than two dimensions is the matrix of its first dimension against the others.

J.-F. Cai, E. Candès and Z. Shen, "A Singular Value Thresholding Algorithm for Matrix Completion", SIAM J. Optim. 2010;
C. Eckart and G. Young, Psychometrika 1936; for the polar factor, K. Fan and A. Hoffman, Proc. AMS 1955.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from aleator.optim.proximal.operator import Prox, Step, check_weight, placed


@dataclass(frozen=True, eq=False)
class Nuclear(Prox):
    """λ times the sum of a matrix's singular values.

    Args:
        lam: λ.
    """

    lam: float

    def __post_init__(self) -> None:
        """Check λ."""
        check_weight("lam", self.lam)

    @property
    def is_identity(self) -> bool:
        """Whether λ is 0."""
        return self.lam == 0

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the matrix with its singular values thresholded."""
        p, sigma, qh = torch.linalg.svd(_matrix(v), full_matrices=False)
        return _product(p, torch.clamp(sigma - placed(step, v) * self.lam, min=0), qh).view(v.shape)

    def penalty(self, x: Tensor) -> Tensor:
        """Return λ Σ σ_i."""
        values: Tensor = torch.linalg.svdvals(_matrix(x.to(torch.promote_types(x.dtype, torch.float32))))
        return self.lam * values.sum()


@dataclass(frozen=True, eq=False)
class LowRank(Prox):
    """The nearest matrix of a rank, by Eckart and Young.

    Args:
        rank: at most this, at least 1.
    """

    projection = True
    rank: int

    def __post_init__(self) -> None:
        """Check the rank."""
        if self.rank < 1:
            raise ValueError(f"rank must be at least 1, got {self.rank}")

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the nearest matrix."""
        matrix = _matrix(v)
        if self.rank >= min(matrix.shape):
            return v.clone()
        p, sigma, qh = torch.linalg.svd(matrix, full_matrices=False)
        return _product(p[:, : self.rank], sigma[: self.rank], qh[: self.rank]).view(v.shape)


@dataclass(frozen=True, eq=False)
class Stiefel(Prox):
    """The nearest matrix with orthonormal columns, of a wide one with orthonormal rows: the polar factor."""

    projection = True

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the polar factor."""
        p, sigma, qh = torch.linalg.svd(_matrix(v), full_matrices=False)
        return _product(p, torch.ones_like(sigma), qh).view(v.shape)


def _matrix(v: Tensor) -> Tensor:
    if v.ndim < 2:
        raise ValueError(f"parameter must be a matrix or have more dimensions, got shape {tuple(v.shape)}")
    return v.flatten(1)


def _product(p: Tensor, sigma: Tensor, qh: Tensor) -> Tensor:
    with torch.autocast(p.device.type, enabled=False):
        return (p * sigma) @ qh
