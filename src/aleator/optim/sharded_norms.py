"""Norms of whole tensors of which a process may hold only a part.

    ‖w‖² = Σ over processes ‖w_local‖²

Under FSDP2 and tensor parallelism a parameter is a `DTensor`. The processes that share it out add up the squares of
their parts; those that hold copies of it must not. All norms asked for at once travel in one all-reduce per set of
processes, usually one per step, and stay on the device. A part may be empty: its norm is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.distributed.tensor import DTensor, Partial

Placement = tuple[torch.device, torch.dtype, tuple[ProcessGroup, ...]]


def local(tensor: Tensor) -> Tensor:
    """Return this process's part of a tensor, which shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def local_gradient(parameter: Tensor) -> Tensor:
    """Return this process's part of a parameter's gradient, laid out as the parameter is."""
    gradient = parameter.grad
    assert gradient is not None
    if isinstance(parameter, DTensor) and isinstance(gradient, DTensor):
        if gradient.placements != parameter.placements:
            gradient = gradient.redistribute(placements=parameter.placements)
        return local(gradient)
    return gradient


def state_dtype(tensor: Tensor) -> torch.dtype:
    """Return the precision of norms and running means: float32 for half-precision tensors, else the tensor's own."""
    return torch.float32 if tensor.dtype in (torch.float16, torch.bfloat16) else tensor.dtype


def by_placement(parameters: Sequence[Tensor]) -> dict[Placement, list[int]]:
    """Return the indices of parameters whose norms can be computed and reduced together.

    Raises:
        RuntimeError: if a parameter is a sum that is not added up yet.
    """
    together: dict[Placement, list[int]] = {}
    for index, parameter in enumerate(parameters):
        together.setdefault((parameter.device, state_dtype(parameter), _shared_by(parameter)), []).append(index)
    return together


def norms(tensors: Sequence[Tensor], placement: Placement) -> Float[Tensor, " tensors"]:
    """Return the 2-norms of whole tensors from this process's parts of them, with one all-reduce where they are shared.

    Args:
        tensors: the parts, all of one placement.
        placement: a key of `by_placement`.
    """
    _, dtype, groups = placement
    found = torch.stack(torch._foreach_norm(list(tensors), 2, dtype))
    if not groups:
        return found
    squares = found.square()
    for group in groups:
        torch.distributed.all_reduce(squares, group=group)
    return squares.sqrt()


def _shared_by(parameter: Tensor) -> tuple[ProcessGroup, ...]:
    """Return the processes that hold different parts of a parameter, one group per dimension of its mesh."""
    if not isinstance(parameter, DTensor):
        return ()
    mesh = parameter.device_mesh
    if any(isinstance(placement, Partial) for placement in parameter.placements):
        raise RuntimeError(f"a parameter must be sharded or replicated, got placements {parameter.placements}")
    return tuple(mesh.get_group(i) for i, placement in enumerate(parameter.placements) if not placement.is_replicate())
