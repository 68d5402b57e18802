"""Several evaluations of one loss inside one step of an optimizer, made to be evaluations of the same function.

Passes of one batch differ for three reasons that have nothing to do with the weights. Under ``torch.autocast`` torch
keeps the half-precision copy of a weight until the context ends, so that later passes see old weights: the copies are
dropped before every pass after the first, and after the last. Dropout draws other masks: every pass draws the random
numbers of the first. And what passes leave behind, in generators and in buffers such as running statistics, is what a
single one would have left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import get_device_states, set_device_states

T = TypeVar("T")


class Again(Protocol):
    """Makes every pass of a step after the first."""

    def __call__(self, evaluate: Callable[[], T]) -> T:
        """Return what ``evaluate`` does."""
        ...


@contextmanager
def repeating(
    parameters: Iterable[Tensor], model: nn.Module | None, *, freeze_stochastic: bool = True
) -> Iterator[Again]:
    """Give a function for every pass after the first, which the caller makes by itself.

    After an error buffers are as before the first pass.

    Args:
        parameters: random numbers come from the CPU and from the devices of these.
        model: whose buffers are to move once; None leaves them to the passes.
        freeze_stochastic: False leaves random numbers and buffers to the passes.
    """
    if not freeze_stochastic:
        try:
            yield _with_present_weights
        finally:
            torch.clear_autocast_cache()
        return
    parameters = list(parameters)
    cpu, devices = torch.get_rng_state(), get_device_states(*parameters)
    device_type = next((p.device.type for p in parameters if p.device.type != "cpu"), "cuda")
    left = before = _buffers(model)
    passes = 1

    def again(evaluate: Callable[[], Any]) -> Any:
        nonlocal left, passes
        if passes == 1:
            left = _buffers(model)
        passes += 1
        with torch.random.fork_rng(devices=devices[0], device_type=device_type):
            torch.set_rng_state(cpu)
            set_device_states(*devices)
            return _with_present_weights(evaluate)

    try:
        yield again
    except BaseException:
        _put_back(model, before)
        raise
    finally:
        torch.clear_autocast_cache()
    if passes > 1:
        _put_back(model, left)


def refuse_stochastic(model: nn.Module) -> None:
    """Check that passes through a model are alike by themselves.

    Raises:
        RuntimeError: if the model has dropout or batch normalisation in training mode.
    """
    for name, module in model.named_modules():
        if module.training and _passes_differ(module):
            raise RuntimeError(
                f"freeze_stochastic must be True for a model in training mode with {type(module).__name__} "
                f"({name or 'the model itself'}): passes of one step would differ"
            )


def _with_present_weights(evaluate: Callable[[], T]) -> T:
    torch.clear_autocast_cache()
    return evaluate()


def _buffers(model: nn.Module | None) -> list[Tensor]:
    return [] if model is None else [buffer.clone() for buffer in model.buffers()]


@torch.no_grad()
def _put_back(model: nn.Module | None, values: list[Tensor]) -> None:
    for buffer, value in zip([] if model is None else model.buffers(), values, strict=True):
        buffer.copy_(value)


def _passes_differ(module: nn.Module) -> bool:
    """Whether a pass of a layer in training mode draws random numbers or moves statistics, for torch's own layers."""
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, (nn.MultiheadAttention, nn.RNNBase)):
        return module.dropout > 0
    # Normalisation of single examples keeps no statistics.
    return isinstance(module, nn.modules.batchnorm._NormBase) and module.track_running_stats
