"""Symmetric matrices by their pairs of nodes: half of the entries, for everything that is done edge by edge.

The N(N − 1)/2 pairs i < j come first, row by row, and then the N diagonal entries. With E the packed and M the square
form,

    unpack(E)_ij = E_{ij},    pack(M)_{ij} = (M_ij + M_ji) / 2

so that pack(unpack(E)) = E, and unpack(pack(M)) is the symmetric part of M. Each is, up to a factor of two for the
pairs, the adjoint of the other, so that backward passes gather as well, which is several times faster than scattering.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn import functional as F


class EdgePairs:
    """The two forms of symmetric matrices of a size.

    Args:
        nodes: rows N of a matrix.
        device: of the matrices.

    Attributes:
        off_diagonal: how many pairs i < j there are; they come first.
        first: the smaller node of each pair.
        second: the larger one.
    """

    def __init__(self, nodes: int, device: torch.device) -> None:
        n, index = nodes, torch.arange(nodes, device=device)
        self.nodes, self.off_diagonal = n, n * (n - 1) // 2
        upper = torch.triu_indices(n, n, 1, device=device)
        self.first, self.second = torch.cat([upper, index.expand(2, -1)], 1)
        low, high = torch.minimum(index[:, None], index), torch.maximum(index[:, None], index)
        before = low * (n - 1) - low * (low - 1) // 2 + high - low - 1  # the pairs before (low, high)
        self._place = torch.where(low == high, self.off_diagonal + low, before).flatten()

    def unpack(self, packed: Float[Tensor, "*batch pairs"]) -> Float[Tensor, "*batch nodes nodes"]:
        """Return the square form."""
        unpacked: Tensor = _Unpack.apply(packed, self)  # type: ignore[no-untyped-call]
        return unpacked

    def pack(self, matrix: Float[Tensor, "*batch nodes nodes"]) -> Float[Tensor, "*batch pairs"]:
        """Return the packed form of the symmetric part."""
        packed: Tensor = _Pack.apply(matrix, self)  # type: ignore[no-untyped-call]
        return packed

    def with_diagonal(self, packed: Float[Tensor, "*batch pairs"], value: float) -> Float[Tensor, "*batch all_pairs"]:
        """Return the packed form, which may lack its diagonal, with another diagonal."""
        return F.pad(packed[..., : self.off_diagonal], (0, self.nodes), value=value)

    def gather(self, packed: Tensor) -> Tensor:
        """Return the square form, without the derivative."""
        return packed.index_select(-1, self._place).view(*packed.shape[:-1], self.nodes, self.nodes)

    def mean(self, matrix: Tensor) -> Tensor:
        """Return the packed form, without the derivative."""
        flat = matrix.flatten(-2)
        upper = flat.index_select(-1, self._flat(self.first, self.second))
        return upper.add_(flat.index_select(-1, self._flat(self.second, self.first))).mul_(0.5)

    def scale_pairs(self, packed: Tensor, factor: float) -> Tensor:
        """Return the packed form with its pairs, but not the diagonal, times a factor."""
        weight = torch.full((packed.shape[-1],), factor, dtype=packed.dtype, device=packed.device)
        weight[self.off_diagonal :] = 1
        return packed * weight

    def _flat(self, row: Int64[Tensor, " pairs"], column: Int64[Tensor, " pairs"]) -> Int64[Tensor, " pairs"]:
        return row * self.nodes + column


class _Unpack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, packed: Tensor, pairs: EdgePairs) -> Tensor:
        ctx.pairs = pairs
        return pairs.gather(packed)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.pairs.scale_pairs(ctx.pairs.pack(grad), 2.0), None


class _Pack(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, matrix: Tensor, pairs: EdgePairs) -> Tensor:
        ctx.pairs = pairs
        return pairs.mean(matrix)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return ctx.pairs.unpack(ctx.pairs.scale_pairs(grad, 0.5)), None
