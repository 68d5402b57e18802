"""Norms of whole tensors of which a process may hold only a part.

    ‖w‖² = Σ over processes ‖w_local‖²

Under FSDP2 and tensor parallelism a parameter is a `DTensor`. The processes that share it out add up the squares of
their parts; those that hold copies of it must not. All norms asked for at once travel in one all-reduce per set of
processes, usually one per step, and stay on the device. A part may be empty: its norm is 0.
"""

from __future__ import annotations

import math
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

    In float32 the squares of entries below 1e-22 vanish, and a norm below 1e-19 has few digits.

    Args:
        tensors: the parts, all of one placement.
        placement: a key of `by_placement`.
    """
    return _over_processes(torch.stack(torch._foreach_norm(list(tensors), 2, placement[1])), placement)


def norms_of_any_size(tensors: Sequence[Tensor], placement: Placement) -> Float[Tensor, " tensors"]:
    """Return what `norms` does, right also where squares vanish, for about twice the work.

    Args:
        tensors: the parts, all of one placement.
        placement: a key of `by_placement`.
    """
    dtype = placement[1]
    plain = torch.stack(torch._foreach_norm(list(tensors), 2, dtype))
    exponent = (
        math.frexp(torch.finfo(dtype).max)[1] // 2
    )  # a power of two rounds nothing; what it takes out of range is not used
    grown = torch._foreach_mul([tensor.to(dtype) for tensor in tensors], 2.0**exponent)
    small = torch.stack(torch._foreach_norm(list(grown), 2)) * 2.0**-exponent
    return _over_processes(torch.where(plain < 2.0 ** -(exponent // 2), small, plain), placement)


def _over_processes(found: Tensor, placement: Placement) -> Tensor:
    """Return the norms of whole tensors from the norms of parts."""
    if not placement[2]:
        return found
    squares = found.double().square()
    for group in placement[2]:
        torch.distributed.all_reduce(squares, group=group)
    return squares.sqrt().to(found.dtype)


def _shared_by(parameter: Tensor) -> tuple[ProcessGroup, ...]:
    """Return the processes that hold different parts of a parameter, one group per dimension of its mesh."""
    if not isinstance(parameter, DTensor):
        return ()
    mesh = parameter.device_mesh
    if any(isinstance(placement, Partial) for placement in parameter.placements):
        raise RuntimeError(f"a parameter must be sharded or replicated, got placements {parameter.placements}")
    return tuple(mesh.get_group(i) for i, placement in enumerate(parameter.placements) if not placement.is_replicate())
