"""Standard noise for a graph: of node features, and of a symmetric matrix with a zero diagonal.

    Z_ij = Z_ji ~ N(0, 1) for i < j,    Z_ii = 0

J. Jo, S. Lee, S. J. Hwang, ICML 2022, arXiv 2202.02514.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from aleator.sde import Generator, gaussian_noise


def symmetric_noise(
    like: Float[Tensor, "batch nodes nodes"], generator: Generator
) -> Float[Tensor, "batch nodes nodes"]:
    """Return symmetric matrices of unit variance off the diagonal, of the shape, type and device of ``like``."""
    upper = gaussian_noise(like, 1, generator).triu(1)
    return upper + upper.mT


def graph_noise(like: Tensor, state: int, generator: Generator) -> Tensor:
    """Return the noise of a state, for `aleator.sde.solve`: 0 is the node features, 1 the adjacency matrix."""
    return symmetric_noise(like, generator) if state else gaussian_noise(like, state, generator)
