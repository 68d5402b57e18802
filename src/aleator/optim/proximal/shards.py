"""An operator on tensors of which a process may hold only a part.

A sum over coordinates is taken on each part by itself. So is a sum over slices, where the parts are cut between slices.
Everything else needs the whole block: it is gathered, treated alike on every process, and cut again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor, Replicate, Shard

from aleator.optim.proximal.operator import Prox, Step
from aleator.optim.sharded_norms import local


@torch.no_grad()
def apply_to_parts_(
    operator: Prox, tensors: Sequence[Tensor], step: Step, metrics: Sequence[Tensor] | None = None
) -> None:
    """Replace each tensor by its proximal point, in place; a `DTensor` as the whole that it stands for.

    Args:
        operator: the same for all.
        tensors: parameters.
        step: t.
        metrics: D of each, spread as the tensor is.
    """
    together = [i for i, tensor in enumerate(tensors) if is_separable(operator, tensor)]
    operator.apply_(
        [local(tensors[i]) for i in together],
        step,
        None if metrics is None else [local(metrics[i]) for i in together],
    )
    for i in sorted(set(range(len(tensors))) - set(together)):
        tensor = tensors[i]
        assert isinstance(tensor, DTensor)
        whole = [tensor.full_tensor()]
        operator.apply_(whole, step, None if metrics is None else [whole_of(metrics[i])])
        local(tensor).copy_(part_like(tensor, whole[0]))


def is_separable(operator: Prox, tensor: Tensor) -> bool:
    """Whether the operator can be applied to this process's part of a tensor by itself."""
    if not isinstance(tensor, DTensor) or operator.elementwise or all(p.is_replicate() for p in tensor.placements):
        return True
    slices = operator.sliceable
    if slices is None:
        return False
    return all(p.is_replicate() or (type(p) is Shard and p.dim == slices % tensor.ndim) for p in tensor.placements)


def whole_of(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor that processes may share out."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def part_like(tensor: DTensor, whole: Tensor) -> Tensor:
    """Return the part of a whole tensor that this process holds of another one of its shape."""
    mesh = tensor.device_mesh
    replicated = DTensor.from_local(whole, mesh, [Replicate()] * mesh.ndim, run_check=False)
    return replicated.redistribute(placements=tensor.placements).to_local()


def check_whole(operator: Prox, name: str, parameter: Tensor) -> None:
    """Check that a parameter is no flat slice, unless the operator looks at coordinates alone.

    Raises:
        RuntimeError: if FSDP1 made it one.
    """
    flat = getattr(parameter, "_is_flat_param", False) or getattr(parameter, "_fsdp_flattened", False)
    if flat and not operator.elementwise:
        raise RuntimeError(
            f"parameters must be whole tensors for {type(operator).__name__}, got a flat slice made by "
            f"FullyShardedDataParallel for {name}: its blocks belong to no layer. Shard with "
            "torch.distributed.fsdp.fully_shard instead"
        )
