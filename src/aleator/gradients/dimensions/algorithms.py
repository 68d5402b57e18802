"""Squared residuals whose operator was sampled: what to back-propagate.

With r the residual of all dimensions, r^J = A + (d/|J|) Σ_{i∈J} L_i u − f that of a sample, and E r^J = r:

    Algorithm 1    mean 2 r · r^J,  r without a graph                      unbiased gradient
    Algorithm 2    mean 2 r^K · r^J,  r^K without a graph, K ⊥ J           unbiased gradient
    Algorithm 3    mean (r^J)²                                             biased: its mean is too large by Var_J r^J

and, going through disjoint blocks J_1 … J_k of all dimensions, Σ_b (|J_b|/d) ∇ mean 2 r · r^{J_b} = ∇ mean r²: the
exact gradient, with the graph of one block in memory at a time.

Z. Hu, K. Shukla, G. E. Karniadakis and K. Kawaguchi, arXiv 2307.12306, Algorithms 1 to 3.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.gradients.dimensions.variance import check_batch


def residual_loss(
    residual: Float[Tensor, "*points"], independent: Float[Tensor, "*points"] | None = None
) -> Float[Tensor, ""]:
    """Return the loss of a sampled residual, whose gradient is that of Algorithm 1, 2 or 3.

    Args:
        residual: r^J, with a graph.
        independent: r^K of an independent draw, or the exact r; None is Algorithm 3.

    Returns:
        With `independent`, a tensor whose value is mean r^K·r^J, an unbiased estimate of the mean squared residual that
        may be negative, and whose gradient is that of mean 2 r^K·r^J with r^K held fixed. Without it, mean (r^J)².

    Raises:
        ValueError: if the two have different shapes.
    """
    if independent is None:
        return residual.square().mean()
    if independent.shape != residual.shape:
        raise ValueError(f"independent must have shape {tuple(residual.shape)}, got {tuple(independent.shape)}")
    product = independent.detach() * residual
    return (2 * product - product.detach()).mean()


def accumulate_dimensions(
    residual: Callable[[Tensor], Tensor], dim: int, blocks: int, *, device: torch.device | str | None = None
) -> Iterator[Tensor]:
    """Yield one loss for each block of dimensions; their gradients add up to that of the mean squared residual.

        for loss in accumulate_dimensions(residual, dim=1000, blocks=10):
            loss.backward()

    Each is to be back-propagated before the next is asked for. Their values add up to the mean squared residual. The
    residual is evaluated twice for each block, the first time without a graph.

    Args:
        residual: from indices J ``(|J|,)`` to r^J ``(points, …)`` with the sum over J scaled by ``dim / |J|``, as
            ``laplacian(…, indices=J)`` has it. It must be affine in that sum and give the same for the same J.
        dim: how many dimensions there are.
        blocks: how many blocks they are cut into.
        device: of the indices.

    Raises:
        ValueError: if there are fewer dimensions than blocks.
    """
    if not 1 <= blocks <= dim:
        raise ValueError(f"blocks must be from 1 to the number of dimensions {dim}, got {blocks}")
    check_batch(1, dim)
    parts = torch.arange(dim, device=device).tensor_split(blocks)
    with torch.no_grad():
        whole = sum((len(part) / dim) * residual(part) for part in parts)
    assert isinstance(whole, Tensor)
    for part in parts:
        share = len(part) / dim
        yield share * residual_loss(residual(part), whole)
