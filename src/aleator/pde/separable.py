"""The energy of the harmonic oscillator for a product of functions of single coordinates, in any number of dimensions.

    ψ(x) = Π_i φ_i(x_i)        E = Σ_i (∫ φ_i'² + ∫ x² φ_i²)/∫ φ_i² ≥ d

Integrals over a product are products of integrals in one dimension, which Gauss quadrature has to rounding, so that
nothing is sampled. The energy is a sum over coordinates: blocks of them, one after the other, have the gradient of all
in the memory of one. Z. Hu et al., arXiv 2307.12306, section 5.4.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


def gauss_cells(
    low: float = -5.0, high: float = 5.0, cells: int = 10, nodes: int = 16
) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return points and weights of Gauss–Legendre quadrature in cells of equal size, in float64.

    Args:
        low: where the interval begins.
        high: where it ends.
        cells: how many.
        nodes: in each cell.

    Raises:
        ValueError: if the interval is empty or a number is below 1.
    """
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"high must be finite and above low, {low:g}, got {high:g}")
    if cells < 1 or nodes < 1:
        raise ValueError(f"cells and nodes must be at least 1, got {cells} and {nodes}")
    place, weight = (torch.from_numpy(array) for array in np.polynomial.legendre.leggauss(nodes))
    half = (high - low) / (2 * cells)
    middles = low + half * (2 * torch.arange(cells, dtype=torch.float64) + 1)
    return (middles.unsqueeze(1) + half * place).flatten(), (half * weight).repeat(cells)


def oscillator_energy(
    values: Float[Tensor, "b n"], slopes: Float[Tensor, "b n"], x: Float[Tensor, " n"], weights: Float[Tensor, " n"]
) -> Float[Tensor, " b"]:
    """Return the energy of each coordinate, which is at least 1.

    Args:
        values: φ_i at the points, of b coordinates.
        slopes: φ_i' there.
        x: points of the quadrature.
        weights: of it.
    """
    return (slopes.square() @ weights + values.square() @ (weights * x.square())) / (values.square() @ weights)


class SeparableState(nn.Module):
    """A product of small networks of single coordinates, φ_i(x) = (x − low)(high − x) net_i(x), with sin inside.

    Args:
        d: coordinates.
        low: where every function is 0.
        high: where it is 0 too.
        width: hidden units of a layer.
        layers: linear layers.

    Raises:
        ValueError: if a number is below 1, there are fewer than two layers, or the interval is empty.
    """

    def __init__(self, d: int, low: float = -5.0, high: float = 5.0, width: int = 100, layers: int = 4) -> None:
        super().__init__()
        for name, value in (("d", d), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if layers < 2:
            raise ValueError(f"layers must be at least 2, got {layers}")
        if not -math.inf < low < high < math.inf:
            raise ValueError(f"high must be finite and above low, {low:g}, got {high:g}")
        self.low, self.high = low, high
        sizes = [1, *[width] * (layers - 1), 1]
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for inputs, outputs in itertools.pairwise(sizes):
            bound = 1 / math.sqrt(inputs)  # as torch begins a linear layer
            for kept, shape in ((self.weights, (d, outputs, inputs)), (self.biases, (d, outputs, 1))):
                kept.append(nn.Parameter(torch.empty(shape, dtype=torch.float64).uniform_(-bound, bound)))

    def forward(
        self, x: Float[Tensor, " n"], which: Int[Tensor, " b"] | None = None
    ) -> tuple[Float[Tensor, "b n"], Float[Tensor, "b n"]]:
        """Return the functions of some coordinates, or of all, and their derivatives, at points of the line."""
        d = len(self.weights[0])
        own = torch.arange(d, device=x.device) if which is None else which
        y, slope = x.expand(len(own), 1, -1), torch.ones_like(x).expand(len(own), 1, -1)
        for index, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if index:
                y, slope = y.sin(), y.cos() * slope
            y, slope = weight[own] @ y + bias[own], weight[own] @ slope
        y, slope = y.squeeze(1), slope.squeeze(1)
        factor = (x - self.low) * (self.high - x)
        return factor * y, factor * slope + (self.low + self.high - 2 * x) * y
