"""Engines by their names, and the precision in which each computes."""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch.distributed import ProcessGroup

from aleator.spiking.dense_engine import DenseEngine
from aleator.spiking.engines import Engine
from aleator.spiking.event_engine import EventEngine
from aleator.spiking.frozen_engine import FrozenEngine
from aleator.spiking.parameters import SpikingParameters
from aleator.spiking.private_engine import PrivateEngine

EngineName = Literal["auto", "event", "dense", "private", "frozen"]


def make_engine(
    name: EngineName,
    parameters: SpikingParameters,
    batch_size: int,
    n_jobs: int,
    device: str,
    process_group: ProcessGroup | None = None,
) -> Engine:
    """Return an engine by its name, in double precision on the CPU, in single precision elsewhere.

    Sums over the samples of a batch, and so over processes, are exact up to rounding. In double precision that is too
    small to move a spike, so that one process and several learn the same.

    Args:
        name: ``"auto"`` is event on the CPU and private elsewhere.
        parameters: the constants.
        batch_size: samples of a batch, for the engines that learn in batches.
        n_jobs: threads of the event engine.
        device: for the torch engines.
        process_group: the processes that share batches, for the engines that learn in batches.

    Raises:
        ImportError: if the engine needs an extra that is missing.
        ValueError: if there is no such engine.
    """
    on_cpu = torch.device(device).type == "cpu"
    if name == "auto":
        name = "event" if on_cpu else "private"
    if name == "event":
        return EventEngine(parameters, n_jobs)
    dtype = torch.float64 if on_cpu else torch.float32
    if name == "dense":
        return DenseEngine(parameters, device=device, dtype=dtype)
    if name == "frozen":
        return FrozenEngine(parameters, batch_size, device, dtype, process_group)
    if name == "private":
        return PrivateEngine(parameters, batch_size, device, dtype, process_group)
    raise ValueError(f"engine must be one of {', '.join(get_args(EngineName))}, got {name!r}")
