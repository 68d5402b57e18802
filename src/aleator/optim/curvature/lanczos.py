"""Lanczos' algorithm: the tridiagonal matrix of a symmetric one in the space of q and its products with it.

    w = A q_j;  α_j = q_jᵀ w;  w −= α_j q_j + β_{j−1} q_{j−1};  w −= Q (Qᵀ w), twice;  β_j = ‖w‖;  q_{j+1} = w / β_j

The eigenvalues of T = tridiag(β, α, β) approach the extreme ones of A from inside: the largest is never above that of
A. In floating-point arithmetic the q_j lose orthogonality as soon as an eigenvalue has converged, and copies of it
appear; two passes of Gram-Schmidt against all of them prevent that, for 8·m·P operations a step and m·P numbers of
memory.

G. H. Golub and C. F. Van Loan, "Matrix Computations", 4th edition, §10.1 and §10.3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from aleator.optim.curvature.operator import CurvatureError


@runtime_checkable
class SymmetricMatrix(Protocol):
    """What `lanczos` multiplies with: a `CurvatureOperator`, a matrix, or anything like them.

    Where it has an attribute ``device``, vectors are there; else on the CPU.
    """

    @property
    def shape(self) -> Any:
        """Two equal numbers."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of vectors."""
        ...

    def __matmul__(self, vector: Any, /) -> Any:
        """Return the product with a vector."""
        ...


@dataclass(frozen=True)
class Tridiagonal:
    """What m steps of Lanczos' algorithm leave.

    Attributes:
        alpha: the diagonal of T.
        beta: beside it.
        Q: the vectors q_j as columns, so that A Q = Q T but for the residual; None without re-orthogonalisation.
        residual: the norm of what is left after the last step, 0 where the space is invariant.
    """

    alpha: Float64[Tensor, " steps"]
    beta: Float64[Tensor, " steps-1"]
    Q: Float[Tensor, "size steps"] | None = None
    residual: float = 0.0

    def ritz(self) -> tuple[Float64[Tensor, " steps"], Float64[Tensor, "steps steps"]]:
        """Return the eigenvalues of T, ascending, and its eigenvectors as columns."""
        t = torch.diag(self.alpha)
        if len(self.beta):
            t = t + torch.diag(self.beta, 1) + torch.diag(self.beta, -1)
        values, vectors = torch.linalg.eigh(t)
        return values, vectors


@dataclass(frozen=True)
class Eigenpairs:
    """Approximate eigenvalues, the largest first, with their vectors.

    Attributes:
        values: θ, at most the eigenvalues they stand for, counted from the top.
        vectors: of length one, as rows.
        residuals: ‖A u − θ u‖: an eigenvalue of A is within this of θ.
    """

    values: Float64[Tensor, " pairs"]
    vectors: Float[Tensor, "pairs size"]
    residuals: Float64[Tensor, " pairs"]


def lanczos(
    op: SymmetricMatrix,
    steps: int,
    probe: Float[Tensor, " size"] | None = None,
    reorth: Literal["full", "none"] = "full",
    generator: torch.Generator | None = None,
) -> Tridiagonal:
    """Return T after so many steps; fewer where the space is exhausted, as it is after P.

    Args:
        op: the matrix.
        steps: m, one product each.
        probe: the first vector, of any length; None draws signs ±1.
        reorth: against all earlier vectors, twice; or not at all, which finds the same largest eigenvalue, but copies
            of it too, and keeps no vectors.
        generator: draws the probe; needed without one.

    Raises:
        ValueError: if ``steps`` is below 1, or the probe is zero, not finite, or of another shape.
        CurvatureError: if a product is not finite.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    if reorth not in ("full", "none"):
        raise ValueError(f"reorth must be 'full' or 'none', got {reorth!r}")
    size, device = int(op.shape[0]), getattr(op, "device", torch.device("cpu"))
    q = _first(size, op.dtype, device, probe, generator)
    steps = min(steps, size)
    # What rounding leaves of a vector of norm ‖T‖ is no new direction.
    negligible = max(1e-10, 8 * torch.finfo(op.dtype).eps)
    basis = torch.empty(steps if reorth == "full" else 0, size, dtype=op.dtype, device=device)
    alpha: list[float] = []
    beta: list[float] = []
    before, norm = None, 0.0
    for j in range(steps):
        if reorth == "full":
            basis[j] = q
        w = op @ q
        alpha.append(float(torch.linalg.vecdot(w.double(), q.double())))
        w = w - alpha[-1] * q
        if before is not None:
            w = w - beta[-1] * before
        if reorth == "full":
            for _ in range(2):
                w = w - basis[: j + 1].T @ (basis[: j + 1] @ w)
        left = float(torch.linalg.vector_norm(w, dtype=torch.float64))
        if not (torch.isfinite(torch.tensor([alpha[-1], left])).all()):
            raise CurvatureError(f"a product with the curvature is not finite, in step {j + 1} of {steps}")
        norm = max(norm, abs(alpha[-1]) + left + (beta[-1] if beta else 0.0))
        beta.append(left)
        if left <= negligible * norm:
            beta[-1] = 0.0
            break
        before, q = q, w / left
    found = len(alpha)
    diagonal, beside = torch.tensor(alpha, dtype=torch.float64), torch.tensor(beta[:-1], dtype=torch.float64)
    return Tridiagonal(diagonal, beside, basis[:found].T if reorth == "full" else None, beta[-1])


def top_eigenpairs(
    op: SymmetricMatrix,
    k: int = 1,
    steps: int = 20,
    probe: Float[Tensor, " size"] | None = None,
    generator: torch.Generator | None = None,
) -> Eigenpairs:
    """Return the k largest eigenvalues and their vectors, as far as so many steps find them.

    An eigenvalue that is there several times is found once: one probe has one direction in its space.

    Args:
        op: the matrix.
        k: how many, at most ``steps``; fewer come back where the space is exhausted.
        steps: of Lanczos' algorithm; the residuals say whether they were enough.
        probe: as in `lanczos`; the sum of earlier vectors is a warm start.
        generator: as in `lanczos`.

    Raises:
        ValueError: if ``k`` is not in [1, steps], and as in `lanczos`.
        CurvatureError: as in `lanczos`.
    """
    if not 1 <= k <= steps:
        raise ValueError(f"k must be in [1, {steps}], steps, got {k}")
    t = lanczos(op, steps, probe, "full", generator)
    values, vectors = (found.flip(-1) for found in t.ritz())
    vectors = vectors[:, :k]
    assert t.Q is not None
    return Eigenpairs(values[:k], vectors.T.to(t.Q) @ t.Q.T, t.residual * vectors[-1].abs())


def signs(size: int, dtype: torch.dtype, device: torch.device, generator: torch.Generator) -> Float[Tensor, " size"]:
    """Draw a vector of ±1."""
    drawn = torch.randint(2, (size,), generator=generator, device=generator.device)
    return (2 * drawn - 1).to(device, dtype)


def _first(
    size: int, dtype: torch.dtype, device: torch.device, probe: Tensor | None, generator: torch.Generator | None
) -> Tensor:
    if probe is None:
        if generator is None:
            raise ValueError("generator must be given without a probe, got None")
        probe = signs(size, dtype, device, generator)
    if probe.shape != (size,):
        raise ValueError(f"probe must have the shape ({size},), got {tuple(probe.shape)}")
    probe = probe.detach().to(device, dtype)
    length = float(torch.linalg.vector_norm(probe, dtype=torch.float64))
    if not 0 < length < float("inf"):
        raise ValueError(f"probe must be finite and not zero, got one of norm {length}")
    return probe / length
