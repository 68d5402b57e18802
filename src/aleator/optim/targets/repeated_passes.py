"""Passes of one batch through a model that are to be alike, though its dropout draws and its normalisation counts.

Every pass draws the random numbers of the first, and what passes leave behind, in generators and in buffers such as
running statistics, is what a single one would have left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

Forward = Callable[[], Tensor]


@contextmanager
def repeating(model: nn.Module, freeze_stochastic: bool) -> Iterator[Callable[[Forward], Tensor]]:
    """Give a function for every pass after the first, which the caller makes by itself.

    After an error buffers are as before the first pass.

    Args:
        model: that passes go through.
        freeze_stochastic: whether to make passes alike; else a model whose passes differ is refused.

    Raises:
        RuntimeError: if the model has dropout or batch normalisation in training mode and ``freeze_stochastic`` is
            False.
    """
    if not freeze_stochastic:
        _refuse_stochastic(model)
        yield lambda forward: forward()
        return
    parameters = list(model.parameters())
    cpu, devices = torch.get_rng_state(), get_device_states(*parameters)
    device_type = next((p.device.type for p in parameters if p.device.type != "cpu"), "cuda")
    left = before = [buffer.clone() for buffer in model.buffers()]
    passes = 1

    def again(forward: Forward) -> Tensor:
        nonlocal left, passes
        if passes == 1:
            left = [buffer.clone() for buffer in model.buffers()]
        passes += 1
        with torch.random.fork_rng(devices=devices[0], device_type=device_type):
            torch.set_rng_state(cpu)
            set_device_states(*devices)
            return forward()

    try:
        yield again
    except BaseException:
        _put_back(model, before)
        raise
    if passes > 1:
        _put_back(model, left)


@torch.no_grad()
def _put_back(model: nn.Module, values: list[Tensor]) -> None:
    for buffer, value in zip(model.buffers(), values, strict=True):
        buffer.copy_(value)


def _refuse_stochastic(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if module.training and _passes_differ(module):
            raise RuntimeError(
                f"freeze_stochastic must be True for a model in training mode with {type(module).__name__} "
                f"({name or 'the model itself'}): passes of one step would differ"
            )


def _passes_differ(module: nn.Module) -> bool:
    """Whether a pass of a layer in training mode draws random numbers or moves statistics, for torch's own layers."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
        return module.dropout > 0
    # Normalisation of single examples keeps no statistics.
    return isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
