"""How far an estimate of a sum over dimensions is from the sum: exact formulas.

With h_i the terms of one point, s² = mean h² − (mean h)², and B of d dimensions drawn without replacement,

    Var (d/B) Σ_{i∈J} h_i = (d²/B) · (d − B)/(d − 1) · s²         0 at B = d; without the middle factor with replacement

and for one random vector v in v ᵀHv, which stands for tr H,

    Rademacher  2 Σ_{i≠j} H_ij²          Gaussian  2 ‖H‖_F²

Coordinates are exact where the diagonal of H is constant, Rademacher vectors where H is diagonal: choose by structure.
The mean squared residual of one sample is too large by this variance.

Z. Hu, K. Shukla, G. E. Karniadakis and K. Kawaguchi, "Tackling the Curse of Dimensionality with Physics-Informed Neural
Networks", Neural Networks 2024, arXiv 2307.12306; Z. Hu et al., "Hutchinson Trace Estimation for High-Dimensional and
High-Order Physics-Informed Neural Networks", CMAME 2024, arXiv 2312.14499.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Kind = Literal["rademacher", "gaussian"]


def dimension_variance(
    terms: Float[Tensor, "*points dim"], batch: int, *, replacement: bool = False
) -> Float[Tensor, "*points"]:
    """Return the variance of the estimate of the sum of all terms by `batch` of them.

    Args:
        terms: all of them, weights included.
        batch: how many dimensions are drawn.
        replacement: whether a dimension may be drawn twice.

    Raises:
        ValueError: if batch is not from 1 to the number of terms.
    """
    dim = terms.shape[-1]
    check_batch(batch, dim)
    spread = terms.var(-1, correction=0)
    if replacement:
        return dim**2 / batch * spread
    return dim**2 / batch * ((dim - batch) / max(dim - 1, 1)) * spread


def hutchinson_variance(
    hessian: Float[Tensor, "*points dim dim"], kind: Kind = "rademacher"
) -> Float[Tensor, "*points"]:
    """Return the variance of vᵀHv for one random vector; that of the mean of V of them is a V-th of it.

    Args:
        hessian: symmetric.
        kind: the distribution of v's independent coordinates.

    Raises:
        ValueError: if kind is unknown.
    """
    check_kind(kind)
    squares = hessian.square()
    if kind == "rademacher":
        squares = squares - torch.diag_embed(squares.diagonal(dim1=-2, dim2=-1))
    return 2 * squares.sum((-2, -1))


def sampled_dimension_variance(terms: Float[Tensor, "points batch"], dim: int) -> Float[Tensor, " points"]:
    """Return an unbiased estimate of `dimension_variance` from the drawn terms alone.

    Args:
        terms: those of the drawn dimensions, at least two unless all are drawn.
        dim: how many there are.

    Raises:
        ValueError: if one term of several was drawn, which says nothing of their spread.
    """
    batch = terms.shape[-1]
    if batch == dim:
        return torch.zeros_like(terms[..., 0])
    if batch < 2:
        raise ValueError("batch must be at least 2 for a variance, got 1")
    return dim**2 / batch * (1 - batch / dim) * terms.var(-1)


def check_batch(batch: int, dim: int) -> None:
    """Refuse a sample larger than what it is of.

    Raises:
        ValueError: saying so.
    """
    if not 1 <= batch <= dim:
        raise ValueError(f"batch must be from 1 to the number of dimensions {dim}, got {batch}")


def check_kind(kind: str) -> None:
    """Refuse distributions that have no formula here.

    Raises:
        ValueError: naming those that have.
    """
    if kind not in ("rademacher", "gaussian"):
        raise ValueError(f"kind must be 'rademacher' or 'gaussian', got {kind!r}")
