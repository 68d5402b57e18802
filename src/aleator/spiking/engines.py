"""What an engine does for the classifier: present samples to a network, with or without learning.

An engine presents coded images one after the other or in batches. A presentation is: scale the weights (if learning),
show the image for ``stimulus`` ms, then ``rest`` ms of silence. An image that brought fewer than ``min_spikes`` hidden
spikes is presented again at a higher intensity, see `aleator.spiking.SpikingParameters`. Its numbers are those of the
last presentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt
import torch
from torch.distributed import ProcessGroup

from aleator.spiking.parameters import SpikingParameters
from aleator.spiking.state import SpikingState

Phase = Literal["both", "hidden", "classes"]
EngineName = Literal["auto", "event", "dense", "private", "frozen"]


@dataclass(frozen=True)
class Responses:
    """How a network responded to samples.

    Attributes:
        hidden: spikes of every hidden cell in the stimulus of the last presentation, [samples, N_h] integers.
        classes: of every class cell, [samples, N_c]. In training these are the teacher's.
        re_presentations: how often each sample was presented again, [samples].
        silent: whether the last presentation, too, brought fewer than ``min_spikes`` hidden spikes, [samples].
    """

    hidden: npt.NDArray[np.int32]
    classes: npt.NDArray[np.int32]
    re_presentations: npt.NDArray[np.int64]
    silent: npt.NDArray[np.bool_]


@runtime_checkable
class Engine(Protocol):
    """Presents samples to a network. It is made from a `SpikingParameters` and holds no state of the network.

    Attributes:
        batch_size: samples that learn together. Training that is cut at multiples of it gives the same numbers.
    """

    batch_size: int

    def train(
        self,
        state: SpikingState,
        greys: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
        phase: Phase,
    ) -> Responses:
        """Present samples and learn, changing the state in place.

        Args:
            state: the network.
            greys: images [samples, N_in] with grey levels in [0, 255].
            labels: classes [samples] in [0, N_c).
            keys: of the random numbers of each sample, see `aleator.spiking.sample_key`.
            phase: ``"hidden"`` learns input → E and theta, ``"classes"`` E → class cells, ``"both"`` all.
        """
        ...

    def evaluate(self, state: SpikingState, greys: npt.NDArray[np.float64], keys: npt.NDArray[np.uint64]) -> Responses:
        """Present samples without learning, each to the rested network. The state is not changed.

        Input weights are taken as `SynapticScaling` would set them; arguments are those of `train`.
        """
        ...


def no_responses(samples: int, state: SpikingState) -> dict[str, Any]:
    """Return the arrays of `Responses`, all zero, for an engine to fill."""
    return {
        "hidden": np.zeros((samples, state.n_hidden), np.int32),  # 256 MB for 10 000 samples of 6 400 cells
        "classes": np.zeros((samples, state.n_classes), np.int32),
        "re_presentations": np.zeros(samples, np.int64),
        "silent": np.zeros(samples, np.bool_),
    }


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
        n_jobs: threads of an evaluation, for the event engine.
        device: for the torch engines.
        process_group: the processes that share batches, for the engines that learn in batches.

    Raises:
        ImportError: if the engine needs an extra that is missing.
        ValueError: if there is no such engine.
    """
    # Imported here: an engine's module imports this one.
    on_cpu = torch.device(device).type == "cpu"
    if name == "auto":
        name = "event" if on_cpu else "private"
    if name == "event":
        from aleator.spiking.event_engine import EventEngine

        return EventEngine(parameters, n_jobs)
    dtype = torch.float64 if on_cpu else torch.float32
    if name == "dense":
        from aleator.spiking.dense_engine import DenseEngine

        return DenseEngine(parameters, device=device, dtype=dtype)
    if name == "frozen":
        from aleator.spiking.frozen_engine import FrozenEngine

        return FrozenEngine(parameters, batch_size, device, dtype, process_group)
    if name == "private":
        from aleator.spiking.private_engine import PrivateEngine

        return PrivateEngine(parameters, batch_size, device, dtype, process_group)
    raise ValueError(f"engine must be one of {', '.join(get_args(EngineName))}, got {name!r}")
