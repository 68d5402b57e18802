"""Interpolation in a grid of vectors, with a derivative written by hand.

A point between eight nodes of the grid gets the sum of their rows, each times the product over the axes of x or 1 − x:
one weighted sum of eight rows, which lie side by side in memory, for all channels at once. The derivative in the rows
is the transposed sum. `torch.nn.functional.grid_sample` does the same channel by channel, and backwards in the points
as well.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


def trilinear(
    table: Float[Tensor, "nodes channel"],
    shape: tuple[int, int, int],
    x: Float[Tensor, " points"],
    y: Float[Tensor, " points"],
    z: Float[Tensor, " points"],
) -> Float[Tensor, "points channel"]:
    """Return the rows of a grid at points between its nodes.

    Points are given axis by axis, so that all arithmetic runs over long rows. The derivative is in the table alone; on
    a CPU the sums over points are always added up in the same order.

    Args:
        table: the rows, node (i, j, k) at ``(k * shape[1] + j) * shape[0] + i``.
        shape: nodes along x, y and z, at least two each.
        x: from 0, the first node, to ``shape[0] - 1``, the last; points beyond are moved to the edge.
        y: the same along y.
        z: the same along z.

    Raises:
        ValueError: if the table does not have the grid's nodes, or the points would need a gradient.
    """
    if len(table) != shape[0] * shape[1] * shape[2] or min(shape) < 2:
        raise ValueError(
            f"table must have a row for each node of {' x '.join(map(str, shape))}, at least 2 along each axis, "
            f"got {len(table)} rows"
        )
    if x.requires_grad or y.requires_grad or z.requires_grad:
        raise ValueError("points must not require gradients: the derivative is in the table alone")
    return cast("Tensor", _Trilinear.apply(table, shape, x, y, z))  # type: ignore[no-untyped-call]


class _Trilinear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table: Tensor, shape: tuple[int, int, int], x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        nodes, weights = _neighbours(shape, x, y, z, len(table))
        weights = weights.to(table.dtype)
        ctx.save_for_backward(nodes, weights)
        ctx.rows = len(table)
        return F.embedding_bag(nodes, table, per_sample_weights=weights, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        nodes, weights = ctx.saved_tensors
        return transposed(nodes, weights, gradients[0], ctx.rows), None, None, None, None


def _neighbours(shape: tuple[int, int, int], x: Tensor, y: Tensor, z: Tensor, rows: int) -> tuple[Tensor, Tensor]:
    """Return the eight nodes around each point and their weights, [points, 8]."""
    low, part = zip(*(_split(c, n) for c, n in zip((x, y, z), shape, strict=True)), strict=True)
    i, j, k = low
    integer = torch.int32 if rows < 2**31 else torch.int64
    first = (k.to(integer) * shape[1] + j.to(integer)) * shape[0] + i.to(integer)
    px, py, pz = part
    nodes = torch.empty(len(x), 8, dtype=integer, device=x.device)
    weights = torch.empty(len(x), 8, dtype=x.dtype, device=x.device)
    both = py * pz
    of_yz = (1 - py - pz + both, py - both, pz - both, both)
    for corner, weight in enumerate(of_yz):
        start = (corner % 2) * shape[0] + (corner // 2) * shape[0] * shape[1]
        right = weight * px
        weights[:, 2 * corner + 1] = right
        torch.sub(weight, right, out=weights[:, 2 * corner])
        torch.add(first, start, out=nodes[:, 2 * corner])
        torch.add(first, start + 1, out=nodes[:, 2 * corner + 1])
    return nodes, weights


def _split(coordinate: Tensor, nodes: int) -> tuple[Tensor, Tensor]:
    """Return the node before each coordinate, and how far it is from there to the next."""
    inside = coordinate.clamp(0, nodes - 1)
    low = inside.floor().clamp_(max=nodes - 2)
    return low, inside - low


def transposed(
    nodes: Tensor, weights: Tensor, gradient: Float[Tensor, "points channel"], rows: int
) -> Float[Tensor, "rows channel"]:
    """Return what the points' gradients add up to at each node."""
    if gradient.device.type != "cpu":
        each = weights.unsqueeze(2) * gradient.unsqueeze(1)
        made = gradient.new_zeros(rows, gradient.shape[1])
        return made.index_add_(0, nodes.flatten(), each.flatten(0, 1))
    # SciPy's product with a transposed matrix is one pass over the entries, four times as fast as index_add and without
    # the eight copies of the gradient that it needs.
    from scipy.sparse import csr_array

    starts = np.arange(0, nodes.numel() + 1, nodes.shape[1], dtype=nodes.numpy().dtype)
    matrix = csr_array((weights.flatten().numpy(), nodes.flatten().numpy(), starts), shape=(len(nodes), rows))
    return torch.from_numpy(matrix.T @ gradient.contiguous().numpy())
