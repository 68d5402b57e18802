"""Which elements of a whole tensor a process holds, where `torch.distributed.tensor` has shared it out.

A dimension of size D is cut for n processes into pieces of ⌈D/n⌉, the last of which may be smaller or empty: what
FSDP2 and tensor parallelism make of it. Seen in the whole tensor, the local elements are rows that follow each other
at one distance: one row if the first dimension is cut.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from aleator.random import Region


def local_part(tensor: Tensor) -> tuple[Tensor, Region]:
    """Return the elements that are here, and where they are in the whole; of a plain tensor all.

    Raises:
        ValueError: if a tensor is cut in another way than into pieces along one dimension, or holds partial sums.
    """
    if not torch.distributed.is_available():
        return tensor, Region(0, 1, tensor.numel(), 0)
    from torch.distributed.tensor import DTensor, Shard

    if not isinstance(tensor, DTensor):
        return tensor, Region(0, 1, tensor.numel(), 0)
    local = tensor.to_local()
    cut = [(axis, place) for axis, place in enumerate(tensor.placements) if not place.is_replicate()]
    if not cut:
        return local, Region(0, 1, local.numel(), 0)
    axis, place = cut[0]
    if len(cut) > 1 or type(place) is not Shard:
        raise ValueError(f"theta must be cut along one dimension or be whole everywhere, got {tensor.placements}")
    mesh = tensor.device_mesh
    return local, shard_region(tuple(tensor.shape), place.dim, mesh.size(axis), mesh.get_local_rank(axis), local)


def shard_region(shape: tuple[int, ...], dim: int, parts: int, part: int, local: Tensor) -> Region:
    """Return where piece ``part`` of ``parts`` along a dimension is.

    Raises:
        ValueError: if the local tensor has not the size of that piece.
    """
    size = shape[dim]
    piece = -(-size // parts)
    offset = min(part * piece, size)
    held = min(piece, size - offset)
    inner, rows = math.prod(shape[dim + 1 :]), math.prod(shape[:dim])
    if local.numel() != rows * held * inner:
        raise ValueError(f"a shard must have {rows * held * inner} elements, got {local.numel()} of shape {shape}")
    return Region(offset * inner, rows, held * inner, size * inner)
