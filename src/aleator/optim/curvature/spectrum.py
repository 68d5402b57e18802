"""Stochastic Lanczos quadrature: the eigenvalue density of a matrix from a few products with it.

From a random probe q of length one and T of `lanczos`, with eigenvalues θ_k and the first components s_k of its
eigenvectors,

    qᵀ g(A) q = Σ_k ω_k g(θ_k),    ω_k = s_k²,    Σ ω = 1,

exactly for polynomials g of degree up to 2m − 1. Over probes of independent signs the left side has the mean
tr g(A) / P.

S. Ubaru, J. Chen and Y. Saad, "Fast estimation of tr(f(A)) via stochastic Lanczos quadrature", SIMAX 38, 2017;
B. Ghorbani, S. Krishnan and Y. Xiao, "An investigation into neural net optimization via Hessian eigenvalue density",
ICML 2019.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from aleator.optim.curvature.lanczos import SymmetricMatrix, Tridiagonal, lanczos
from aleator.optim.curvature.operator import CurvatureOperator, Kind


@dataclass(frozen=True)
class Spectrum:
    """Nodes and weights of a quadrature, a row for each probe.

    Rows that ended early are filled up with their first node at weight 0.

    Attributes:
        nodes: θ.
        weights: ω; each row sums to 1.
    """

    nodes: Float64[Tensor, "probes steps"]
    weights: Float64[Tensor, "probes steps"]

    @property
    def top(self) -> float:
        """The largest node: at most the largest eigenvalue."""
        return float(self.nodes.max())

    @property
    def bottom(self) -> float:
        """The smallest node: at least the smallest eigenvalue."""
        return float(self.nodes.min())

    def moment(self, k: int) -> float:
        """Return the mean of λᵏ over eigenvalues, estimated; exact in each probe's space for k < 2m."""
        return float((self.weights * self.nodes**k).sum(1).mean())

    def trace(self, size: int) -> tuple[float, float]:
        """Return the estimated trace of a matrix of ``size`` rows, and its standard error over probes.

        The standard error is NaN with one probe.
        """
        each = size * (self.weights * self.nodes).sum(1)
        error = float(each.std() / math.sqrt(len(each))) if len(each) > 1 else math.nan
        return float(each.mean()), error

    def density(self, grid: Float[Tensor, " points"], width: float) -> Float64[Tensor, " points"]:
        """Return the density of eigenvalues at some points, each node a Gaussian; for pictures.

        Args:
            grid: where.
            width: the standard deviation of the Gaussians.

        Raises:
            ValueError: if the width is not positive.
        """
        if not width > 0:
            raise ValueError(f"width must be positive, got {width}")
        z = (grid.double()[:, None] - self.nodes.reshape(-1)) / width
        bells = torch.exp(-z.square() / 2) / (width * math.sqrt(2 * math.pi))
        return bells @ self.weights.reshape(-1) / len(self.nodes)


def slq(
    op: SymmetricMatrix,
    steps: int = 20,
    probes: int = 1,
    probe: Float[Tensor, " size"] | None = None,
    generator: torch.Generator | None = None,
) -> Spectrum:
    """Return the spectrum of a matrix from ``steps`` products for each of ``probes`` probes.

    Args:
        op: the matrix.
        steps: m of `lanczos`.
        probes: how many vectors of random signs.
        probe: instead of them, one vector; weights are then those in its direction.
        generator: draws the probes.

    Raises:
        ValueError: if ``probes`` is below 1, or above it with a probe, and as in `lanczos`.
        CurvatureError: as in `lanczos`.
    """
    if probes < 1:
        raise ValueError(f"probes must be at least 1, got {probes}")
    if probe is not None and probes > 1:
        raise ValueError(f"probes must be 1 with a probe, got {probes}")
    return quadrature([lanczos(op, steps, probe, generator=generator) for _ in range(probes)])


def quadrature(found: Sequence[Tridiagonal]) -> Spectrum:
    """Return nodes and weights of some results of `lanczos`."""
    longest = max(len(t.alpha) for t in found)
    nodes = torch.empty(len(found), longest, dtype=torch.float64)
    weights = torch.zeros(len(found), longest, dtype=torch.float64)
    for row, t in enumerate(found):
        values, vectors = t.ritz()
        nodes[row] = values[0]
        nodes[row, : len(values)], weights[row, : len(values)] = values, vectors[0].square()
    return Spectrum(nodes, weights)


def group_spectra(
    model: nn.Module,
    loss_fn: Callable[[Any, Any], Tensor],
    data: Iterable[tuple[Any, Any]],
    groups: Mapping[str, Sequence[Tensor]] | None = None,
    kind: Kind = "hessian",
    steps: int = 20,
    probes: int = 1,
    *,
    generator: torch.Generator,
) -> dict[str, Spectrum]:
    """Return the spectrum of the block of each group of parameters on the diagonal of the matrix.

    Args:
        model: as of `CurvatureOperator`.
        loss_fn: the same.
        data: the same.
        groups: parameters by name; None is each trained parameter by itself.
        kind: which matrix.
        steps: as of `slq`.
        probes: the same.
        generator: draws the probes, and the labels of ``fisher``.

    Raises:
        ValueError: as `CurvatureOperator` and `slq`.
    """
    batches = list(data)
    if groups is None:
        groups = {name: [p] for name, p in model.named_parameters() if p.requires_grad}
    labels = generator if kind == "fisher" else None
    return {
        name: slq(
            CurvatureOperator(model, loss_fn, batches, kind, members, generator=labels),
            steps,
            probes,
            generator=generator,
        )
        for name, members in groups.items()
    }
