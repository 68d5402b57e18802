"""Several passes in one step: training modes that a look at a model leaves as they were, masks that passes share."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import nn


@contextlib.contextmanager
def modes_kept(model: nn.Module) -> Iterator[None]:
    """Put every module back into the mode in which it is now when the block ends, also by an error."""
    modes = [(module, module.training) for module in model.modules()]
    try:
        yield
    finally:
        for module, training in modes:  # ``train`` would set the mode of all submodules
            module.training = training


@contextlib.contextmanager
def same_draws(devices: Iterable[torch.device]) -> Iterator[Callable[[], None]]:
    """Let passes of one step draw the same numbers from torch's generators, such as dropout masks.

    The block is given a function that returns the generators of the CPU and of these devices to where they were at its
    beginning. After the block they stand where the last pass left them: as if there had been one.
    """
    kinds: set[tuple[str, int | None]] = {
        (device.type, device.index) for device in devices if device.type not in ("cpu", "meta")
    }
    modules = [(torch.get_device_module(kind), index) for kind, index in kinds]
    cpu = torch.get_rng_state()
    states = [module.get_rng_state() if i is None else module.get_rng_state(i) for module, i in modules]

    def again() -> None:
        torch.set_rng_state(cpu)
        for (module, index), state in zip(modules, states, strict=True):
            module.set_rng_state(state) if index is None else module.set_rng_state(state, index)

    yield again
