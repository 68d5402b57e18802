"""Soft spectral clipping by singular values, with a derivative that repeated ones leave finite.

    H_c(U) = P diag(f(σ)) Qᵀ,    f(σ) = σ r(σ),    r(σ) = (1 + σ²/c²)^(−1/2),    for U = P diag(σ) Qᵀ

H_c is smooth everywhere, P and Q are not: the derivative of a decomposition divides by σ_i² − σ_j², the derivative of
H_c by nothing that vanishes. With A = Pᵀ dU Q,

    dH_c = P [D₊ ∘ (A + Aᵀ)/2 + D₋ ∘ (A − Aᵀ)/2] Qᵀ + P diag(r) Pᵀ dU (I − Q Qᵀ)
    D₋ = (f_i + f_j)/(σ_i + σ_j),    D₊ = (f_i − f_j)/(σ_i − σ_j) = r_i² r_j² / D₋,    both 1 where σ_i = σ_j = 0.

The map from dU to dH_c is its own adjoint, so that it takes gradients back as well.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable


def exact_clip(
    matrices: Float[Tensor, "*batch rows cols"], threshold: Float[Tensor, "*thresholds"]
) -> Float[Tensor, "*batch rows cols"]:
    """Return H_c of each matrix of a batch; differentiable once in both arguments. What is not finite becomes NaN.

    Args:
        matrices: U, with at most as many rows as columns.
        threshold: c, positive, of a shape that goes with ``(*batch, 1, 1)``.
    """
    clipped: Tensor = _ExactClip.apply(matrices, threshold)  # type: ignore[no-untyped-call]
    return clipped


class _ExactClip(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrices: Tensor, threshold: Tensor) -> Tensor:
        finite = matrices.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
        p, sigma, qh = torch.linalg.svd(torch.where(finite, matrices, 0), full_matrices=False)
        row = sigma[..., None, :]
        lower, higher = torch.minimum(row, threshold), torch.maximum(row, threshold)
        values = lower * (1 + (lower / higher).square()).rsqrt()
        ctx.save_for_backward(p, row, qh, values, threshold)
        return torch.where(finite, (p * values) @ qh, torch.nan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None]:
        p, sigma, qh, values, threshold = ctx.saved_tensors
        to_matrices = to_threshold = None
        shrink = torch.where(sigma > 0, values / torch.where(sigma > 0, sigma, 1), 1)  # r
        within = p.mT @ grad @ qh.mT
        if ctx.needs_input_grad[0]:
            total = sigma + sigma.mT
            minus = torch.where(total > 0, (values + values.mT) / torch.where(total > 0, total, 1), 1)
            plus = shrink.square() * shrink.mT.square() / minus
            symmetric, skew = (within + within.mT) / 2, (within - within.mT) / 2
            outside = p.mT @ grad - within @ qh
            to_matrices = p @ ((plus * symmetric + minus * skew) @ qh + shrink.mT * outside)
        if ctx.needs_input_grad[1]:
            by_value = (values / threshold) ** 3  # ∂f/∂c = (σ/c)³ r³
            each = (within.diagonal(dim1=-2, dim2=-1)[..., None, :] * by_value).sum(-1, keepdim=True)
            to_threshold = each.sum_to_size(threshold.shape)
        return to_matrices, to_threshold
