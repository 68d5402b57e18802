"""Weights and optimizer state as plain tensors, whatever they are spread over.

A replicated model is unwrapped, a model sharded by ``fully_shard`` is gathered in full on the CPU. What is saved is
therefore the same file for one process or for many, and it is spread again on load over however many there are then.
All processes have to call these functions together; only the first one receives the full state of a sharded model.
"""

from __future__ import annotations

import re
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the model inside a DDP wrapper, and any other model as it is."""
    return cast("nn.Module", model.module) if isinstance(model, DistributedDataParallel) else model


_FILE = re.compile(r"[A-Za-z0-9_-]+")


def models_of(task: Any) -> dict[str, nn.Module]:
    """Return a task's models by the names of their files: ``model``, where it has one, and further ones.

    Raises:
        ValueError: if a further model is none, or its file would lie elsewhere or in the place of the model's.
    """
    model = getattr(task, "model", None)
    models = {"model": model} if isinstance(model, nn.Module) else {}
    for name, further in getattr(task, "saved_models", dict)().items():
        if not isinstance(further, nn.Module) or name == "model" or not _FILE.fullmatch(name):
            raise ValueError(
                f"saved_models must return modules by names of letters, digits, '-' and '_', and not of 'model', "
                f"got {name!r}: {type(further).__name__}"
            )
        models[name] = further
    return models


def weights_of(task: Any) -> dict[str, dict[str, Tensor]]:
    """Return the weights of a task's models by the names of their files."""
    # Copies: safetensors refuses tensors that share memory, as tied weights do.
    return {
        file: {name: tensor.clone().contiguous() for name, tensor in model_state(model).items()}
        for file, model in models_of(task).items()
    }


def share_buffers(model: nn.Module) -> None:
    """Give every process the first one's buffers, such as running means, as DDP does in its next forward pass.

    Not all processes may have an example to pass: the forward passes that follow then need no other process.
    """
    if isinstance(model, DistributedDataParallel):
        for buffer in model.module.buffers():
            dist.broadcast(buffer, 0)
        model.require_forward_param_sync = False


def training_state(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return ``{"model", "optimizer"}`` as nested containers of plain tensors."""
    if not is_sharded(model):
        plain = unwrapped(model)
        return {"model": plain.state_dict(), "optimizer": _by_name(plain, optimizer)}
    from torch.distributed.checkpoint import state_dict as torchs

    _reshard(model)
    gather = torchs.StateDictOptions(full_state_dict=True, cpu_offload=True)
    if optimizer.state:
        gathered = torchs.get_optimizer_state_dict(model, optimizer, options=gather)
    else:
        # torch would take a step to have a state to gather, and Adam's step count would be ahead by one.
        gathered = _by_name(model, optimizer)
    return {"model": torchs.get_model_state_dict(model, options=gather), "optimizer": gathered}


def load_training_state(model: nn.Module, optimizer: Optimizer, state: dict[str, Any]) -> None:
    """Put back what `training_state` returned, for the same model under any number of processes."""
    if not is_sharded(model):
        unwrapped(model).load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        return
    from torch.distributed.checkpoint import state_dict as torchs

    _reshard(model)
    spread = torchs.StateDictOptions(full_state_dict=True, broadcast_from_rank0=True)
    torchs.set_model_state_dict(model, state["model"], options=spread)
    if state["optimizer"]["state"]:
        torchs.set_optimizer_state_dict(model, optimizer, state["optimizer"], options=spread)
    else:
        optimizer.load_state_dict(state["optimizer"])


def model_state(model: nn.Module) -> dict[str, Any]:
    """Return the model's state dict as plain tensors on the CPU."""
    if is_sharded(model):
        from torch.distributed.checkpoint import state_dict as torchs

        _reshard(model)
        gather = torchs.StateDictOptions(full_state_dict=True, cpu_offload=True)
        return torchs.get_model_state_dict(model, options=gather)
    return {name: tensor.detach().cpu() for name, tensor in unwrapped(model).state_dict().items()}


def are_numbers(state: Any, model: Any) -> bool:
    """Whether weights may be saved: no NaN in any tensor of a task's state, and no infinity in the model's parameters.

    An infinity elsewhere may be meant: attention masks hold some.
    """
    if isinstance(model, nn.Module) and not all(bool(torch.isfinite(p).all()) for p in map(_local, model.parameters())):
        return False
    if isinstance(state, Tensor):
        return not bool(torch.isnan(_local(state)).any())
    if isinstance(state, dict):
        return all(are_numbers(value, None) for value in state.values())
    return not isinstance(state, (list, tuple)) or all(are_numbers(value, None) for value in state)


def is_sharded(model: nn.Module) -> bool:
    """Whether the model was sharded by ``fully_shard``, or holds a `DTensor` by other means."""
    if any(isinstance(module, FSDPModule) for module in model.modules()):
        return True
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def _by_name(model: nn.Module, optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimizer's state with parameters under their names, as a sharded model needs it on load.

    torch numbers parameters through the optimizer's groups. A parameter that is not the model's keeps its number.
    """
    state = optimizer.state_dict()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    ordered = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    named = {index: names.get(id(parameter), index) for index, parameter in enumerate(ordered)}
    return {
        "state": {named[index]: value for index, value in state["state"].items()},
        "param_groups": [{**group, "params": [named[i] for i in group["params"]]} for group in state["param_groups"]],
    }


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _reshard(model: nn.Module) -> None:
    # Between an evaluation and the next backward pass FSDP2's root module holds its parameters whole, as plain tensors
    # that neither the optimizer nor torch's state functions know.
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()
