"""The protocol of an engine of the classifier: it presents samples to a network, with or without learning.

An engine presents coded images one after the other or in batches. A presentation is: scale the weights (if learning),
show the image for ``stimulus`` ms, then ``rest`` ms of silence. An image that brought fewer than ``min_spikes`` hidden
spikes is presented again at a higher intensity, see `aleator.spiking.SpikingParameters`. Its numbers come from the last
presentation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
import numpy.typing as npt

from aleator.spiking.state import SpikingState

Phase = Literal["both", "hidden", "classes"]


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
            keys: of the random numbers of each sample, see `aleator.spiking.sample_keys`.
            phase: ``"hidden"`` learns input → E and theta, ``"classes"`` E → class cells, ``"both"`` all.

        Raises:
            ValueError: if the samples do not fit the network, see `check_samples`.
        """
        ...

    def evaluate(self, state: SpikingState, greys: npt.NDArray[np.float64], keys: npt.NDArray[np.uint64]) -> Responses:
        """Present samples without learning, each to the rested network. The state is not changed.

        Input weights are taken as `SynapticScaling` would set them; arguments and errors as for `train`.
        """
        ...


def check_samples(
    state: SpikingState,
    greys: npt.NDArray[Any],
    keys: npt.NDArray[Any],
    labels: npt.NDArray[Any] | None = None,
    phase: str | None = None,
) -> None:
    """Check samples against the network that they are for: compiled loops look at no size again.

    Args:
        state: the network, which is checked itself.
        greys: see `Engine.train`.
        keys: see `Engine.train`.
        labels: see `Engine.train`; None in an evaluation.
        phase: see `Engine.train`; None in an evaluation.

    Raises:
        ValueError: naming the argument, what it is and what it must be.
    """
    state.check()
    if phase is not None and phase not in get_args(Phase):
        raise ValueError(f"phase must be one of {', '.join(get_args(Phase))}, got {phase!r}")
    expected: list[tuple[str, npt.NDArray[Any], type, tuple[int, ...]]] = [
        ("greys", greys, np.float64, (len(greys), state.n_in)),
        ("keys", keys, np.uint64, (len(greys),)),
    ]
    if labels is not None:
        expected.append(("labels", labels, np.int64, (len(greys),)))
    for name, array, dtype, shape in expected:
        if array.dtype != dtype or array.shape != shape:
            wanted = f"{np.dtype(dtype)} of the shape {shape}"
            raise ValueError(f"{name} must be {wanted}, got {array.dtype} of the shape {array.shape}")
    if greys.size and not (greys.min() >= 0 and greys.max() <= 255):
        raise ValueError(f"greys must be in [0, 255], got values from {greys.min()} to {greys.max()}")
    if labels is not None and len(labels) and not (labels.min() >= 0 and labels.max() < state.n_classes):
        wrong = labels.min() if labels.min() < 0 else labels.max()
        raise ValueError(f"labels must be in [0, {state.n_classes}), got {wrong}")


def no_responses(samples: int, state: SpikingState) -> dict[str, Any]:
    """Return the arrays of `Responses`, all zero, for an engine to fill."""
    return {
        "hidden": np.zeros((samples, state.n_hidden), np.int32),  # 256 MB for 10 000 samples of 6 400 cells
        "classes": np.zeros((samples, state.n_classes), np.int32),
        "re_presentations": np.zeros(samples, np.int64),
        "silent": np.zeros(samples, np.bool_),
    }
