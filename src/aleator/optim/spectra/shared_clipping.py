"""Clipping shared out among processes that all hold the same matrices, where each would otherwise clip all of them.

Every matrix goes to the process with the least to do so far, the dearest first, so that all have about the same to do
whatever the shapes are. One exchange then hands all results to everybody.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor

from aleator.optim.spectra.soft_clip import clip_matrices


def processes_that_share(parameters: Sequence[Tensor]) -> ProcessGroup | None:
    """Return the processes over which all parameters are sharded, where that is one and the same set."""
    meshes = {p.device_mesh if isinstance(p, DTensor) else None for p in parameters}
    mesh = meshes.pop()
    return mesh.get_group() if not meshes and mesh is not None and mesh.ndim == 1 else None


def owners(shapes: Sequence[Sequence[int]], processes: int) -> list[int]:
    """Return the process that clips each matrix: of the dearest first, always the one with the least work so far.

    The work of m × n, m ≤ n, is taken to be m²(n + 9m): two products of m × m by m × n and 18 of m × m.
    """
    costs = [min(shape) ** 2 * (max(shape) + 9 * min(shape)) for shape in shapes]
    load = [0] * processes
    found = [0] * len(costs)
    for index in sorted(range(len(costs)), key=lambda i: -costs[i]):
        found[index] = min(range(processes), key=load.__getitem__)
        load[found[index]] += costs[index]
    return found


def clip_matrices_shared(
    group: ProcessGroup, stacks: Sequence[Tensor], threshold: float | Tensor, **options: Any
) -> list[Tensor]:
    """Do what `clip_matrices` does, with the work shared out and one exchange for each dtype and device.

    Args:
        group: processes that all call this with equal matrices.
        stacks: see `clip_matrices`.
        threshold: c, the same for all.
        options: of `clip_matrices`.
    """
    kinds: dict[tuple[torch.dtype, torch.device], list[int]] = {}
    for index, stack in enumerate(stacks):
        kinds.setdefault((stack.dtype, stack.device), []).append(index)
    results = list(stacks)
    for members in kinds.values():
        matrices = [matrix for i in members for matrix in stacks[i]]
        clipped = iter(_exchanged(group, matrices, threshold, options))
        for i in members:
            if len(stacks[i]):
                results[i] = torch.stack([next(clipped) for _ in stacks[i]])
    return results


def _exchanged(
    group: ProcessGroup, matrices: list[Tensor], threshold: float | Tensor, options: dict[str, Any]
) -> list[Tensor]:
    owner = owners([matrix.shape for matrix in matrices], group.size())
    theirs = [[i for i, process in enumerate(owner) if process == rank] for rank in range(group.size())]
    lengths = [[matrices[i].numel() for i in indices] for indices in theirs]
    sent = matrices[0].new_zeros(max(map(sum, lengths)))
    if not len(sent):
        return matrices
    mine = clip_matrices([matrices[i].unsqueeze(0) for i in theirs[group.rank()]], threshold, **options)
    if mine:
        sent[: sum(lengths[group.rank()])] = torch.cat([matrix.reshape(-1) for matrix in mine])
    received = [torch.empty_like(sent) for _ in theirs]
    torch.distributed.all_gather(received, sent, group=group)
    found = list(matrices)
    for row, indices, of_row in zip(received, theirs, lengths, strict=True):
        for i, part in zip(indices, torch.split(row[: sum(of_row)], of_row), strict=True):
            found[i] = part.view(matrices[i].shape)
    return found
