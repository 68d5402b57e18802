"""The gradient that a first layer gets from TrAct, as functions of tensors.

A layer z = x Wᵀ with N rows of inputs has the weight gradient Dᵀx, D = ∂L/∂z. How much an image teaches therefore
depends on its contrast and brightness. TrAct asks instead for the gradient step in z, and for the smallest change of W
that realises it; with a loss that is a mean over examples that is the ridge regression

    ΔW = argmin ‖−η N D − x ΔWᵀ‖² + λN ‖ΔW‖² = −η G,    G = Dᵀx (xᵀx/N + λI)⁻¹ = Dᵀ (xxᵀ/N + λI)⁻¹ x

The first form (primal) solves as many equations as a row has inputs, the second (dual) as many as there are rows. G
takes the place of the gradient in any optimizer.

F. Petersen, C. Borgelt, S. Ermon, "TrAct: Making First-layer Pre-Activations Trainable", NeurIPS 2024, arXiv
2410.23970, Lemma 1.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

Solver = Literal["auto", "primal", "dual"]

# Of ε ‖xᵀx/N‖/λ. Up to it, on inputs with one direction far above the others, both forms were right to 7e-4.
LARGEST_LOSS = 4e-3


def tract_weight_grad(
    x: Float[Tensor, "rows n"],
    grad_z: Float[Tensor, "rows m"],
    lam: float,
    *,
    solver: Solver = "auto",
) -> Float[Tensor, "m n"]:
    """Return G of a layer z = x Wᵀ, in float32, or in float64 where ``x`` is.

    Costs N n² + n³/3 multiplications more than the ordinary gradient (primal) or N² n + N³/3 (dual), N being ``rows``.

    Args:
        x: inputs of the layer. λ is relative to a mean of 0 and a standard deviation of 1.
        grad_z: D, the gradient of a mean loss with respect to the layer's outputs.
        lam: λ > 0.
        solver: ``"auto"`` takes the smaller system of equations.

    Raises:
        ValueError: if ``lam`` is not positive and finite, ``solver`` is unknown, or shapes do not fit.
        TypeError: if ``x`` is not of floating point.
        RuntimeError: on a CPU, if the inputs are not finite, or so large beside λ that the precision does not do: then
            standardise them, or pass float64. Elsewhere, where to look would mean to wait for the device, the gradient
            is NaN then.
    """
    check_lam(lam)
    check_solver(solver)
    check_floating(x)
    if not x.ndim == grad_z.ndim == 2 or len(x) != len(grad_z):
        raise ValueError(
            f"x and grad_z must be matrices with as many rows, got shapes {tuple(x.shape)} and {tuple(grad_z.shape)}"
        )
    dtype = solving_dtype(x.dtype)
    with without_autocast(x):
        x, grad_z = x.to(dtype), grad_z.to(dtype)
        if use_dual(solver, *x.shape):
            return right_solve_dual(grad_z, x, lam)
        return right_solve(grad_z.mT @ x, mean_gram(x.mT @ x, len(x)), lam)


def right_solve(
    grad: Float[Tensor, "*groups m n"], gram: Float[Tensor, "*groups n n"], lam: float, name: str = "the inputs"
) -> Float[Tensor, "*groups m n"]:
    """Return grad (gram + λI)⁻¹: the primal form, given the ordinary gradient and xᵀx/N."""
    return ridge_solve(gram, grad.mT, lam, name).mT


def right_solve_dual(
    grad_z: Float[Tensor, "*groups rows m"], x: Float[Tensor, "*groups rows n"], lam: float, name: str = "the inputs"
) -> Float[Tensor, "*groups m n"]:
    """Return Dᵀ (xxᵀ/N + λI)⁻¹ x: the dual form, N equations.

    The ordinary gradient Dᵀx would do instead of D, by Woodbury's identity, but as a difference of numbers that agree
    in nearly all their digits where λ is small beside xxᵀ/N.
    """
    return ridge_solve(mean_gram(x @ x.mT, x.shape[-2]), grad_z, lam, name).mT @ x


def ridge_solve(
    gram: Float[Tensor, "*groups k k"], right: Float[Tensor, "*groups k m"], lam: float, name: str = "the inputs"
) -> Float[Tensor, "*groups k m"]:
    """Return (gram + λI)⁻¹ right by Cholesky factorisation.

    Its relative error grows as ε ‖gram‖/λ, with the precision ε of the numbers and Frobenius' norm; above
    `LARGEST_LOSS` it is refused. In float32 that takes inputs that are far from standardised.

    Raises:
        RuntimeError: on a CPU, if the matrix is not finite, or too large beside λ for its precision. Elsewhere, where
            to look would mean to wait for the device, the result is NaN then.
    """
    shifted = gram + lam * torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    size = torch.linalg.matrix_norm(gram)
    factor, info = torch.linalg.cholesky_ex(shifted)
    solved = (info == 0) & (torch.finfo(gram.dtype).eps * size <= LARGEST_LOSS * lam)
    if gram.device.type != "cpu":
        return torch.cholesky_solve(right, factor).where(solved[..., None, None], math.nan)
    if not solved.all():
        largest = float(size.max())
        if not math.isfinite(largest):
            raise RuntimeError(f"{name}: xᵀx/N must be finite, got a norm of {largest}")
        raise RuntimeError(
            f"{name}: {str(gram.dtype).removeprefix('torch.')} is too coarse for lam={lam:g} beside xᵀx/N of norm "
            f"{largest:.2g}: standardise the inputs, or compute in float64 (compute_dtype=torch.float64)"
        )
    return torch.cholesky_solve(right, factor)


def mean_gram(gram: Tensor, rows: int) -> Tensor:
    """Return a sum over rows as a mean; zero for no rows."""
    return gram / max(rows, 1)


def use_dual(solver: Solver, rows: int, n: int) -> bool:
    """Whether to solve as many equations as there are rows."""
    return solver == "dual" or (solver == "auto" and rows < n)


def solving_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the precision that is computed in: float32, or float64 for float64."""
    return torch.promote_types(dtype, torch.float32)


def without_autocast(x: Tensor) -> torch.autocast:
    """Return a context in which nothing is cast to half precision, in which no matrix can be factorised."""
    return torch.autocast(x.device.type, enabled=False)


def check_lam(lam: float) -> None:
    """Check λ.

    Raises:
        ValueError: if it is not positive and finite.
    """
    if not 0 < lam < math.inf:
        raise ValueError(f"lam must be positive and finite, got {lam}")


def check_solver(solver: str) -> None:
    """Check the name of a solver.

    Raises:
        ValueError: if it is unknown.
    """
    if solver not in ("auto", "primal", "dual"):
        raise ValueError(f"solver must be auto, primal or dual, got {solver!r}")


def check_floating(x: Tensor) -> None:
    """Check the type of inputs.

    Raises:
        TypeError: if it is not of floating point.
    """
    if not x.is_floating_point():
        raise TypeError(f"inputs must be of floating point, got {x.dtype}")
