"""The event-driven engine: online learning on the CPU, sample after sample, at the cost of the spikes.

It is the reference of the other engines: the authors' order of operations, double precision, and one compiled call for
many samples. Evaluation has no plasticity, so samples are shared out among threads. Training shares out the cells of a
large network, see `aleator.spiking.crowd`.

An evaluated sample starts from the rested network. The authors' program goes on from where the sample before left the
voltages 150 ms earlier, which makes its results depend on the order of the samples.
"""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool
from torch import Tensor

from aleator.spiking.engines import Phase, Responses, check_samples, no_responses
from aleator.spiking.parameters import SpikingParameters
from aleator.spiking.state import SpikingState
from aleator.spiking.threshold import NEAREST_TO_POLE

# Hidden cells from which on a front of them is worth its administration in training; an evaluation, where a step does
# less and there is nothing to scale, needs four times as many.
CROWD = 1024


@dataclass(frozen=True)
class Rasters:
    """Spikes of a simulation.

    Attributes:
        hidden: of the hidden cells E.
        inhibitory: of their partners I.
        classes: of the class cells; in training the teacher's.
    """

    hidden: Bool[Tensor, "time ... hidden"]
    inhibitory: Bool[Tensor, "time ... hidden"]
    classes: Bool[Tensor, "time ... classes"]


class EventEngine:
    """Event-driven presentation of samples, see `aleator.spiking.engines.Engine`. Needs the extra ``spiking``.

    Args:
        parameters: the constants.
        n_jobs: threads of an evaluation, and of the training of 1 024 hidden cells or more. The results do not depend
            on it.

    Raises:
        ImportError: if numba is missing.
        ValueError: if ``n_jobs`` is below 1.
    """

    batch_size = 1

    def __init__(self, parameters: SpikingParameters, n_jobs: int = 1) -> None:
        if n_jobs < 1:
            raise ValueError(f"n_jobs must be at least 1, got {n_jobs}")
        _kernels()
        self.parameters, self.n_jobs = parameters, n_jobs

    def train(
        self,
        state: SpikingState,
        greys: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
        phase: Phase,
    ) -> Responses:
        """Present samples and learn after every step, changing the state in place, see `Engine.train`."""
        check_samples(state, greys, keys, labels, phase)
        filled = no_responses(len(greys), state)
        network = _network(state)
        constants = _constants(self.parameters, state, phase in ("both", "hidden"), phase in ("both", "classes"))
        present = _presenter(network, constants, CROWD, self.n_jobs)
        present(network, greys, labels, keys, *filled.values())
        return Responses(**filled)

    def evaluate(self, state: SpikingState, greys: npt.NDArray[np.float64], keys: npt.NDArray[np.uint64]) -> Responses:
        """Present samples without learning, each to the rested network, see `Engine.evaluate`."""
        check_samples(state, greys, keys)
        filled = no_responses(len(greys), state)
        constants = _constants(self.parameters, state, False, False)
        rested = self.evaluated(state)
        shared = _network(rested)
        labels = np.zeros(len(greys), np.int64)

        def run(begin: int, end: int) -> None:
            own = _network(rested.rested(self.parameters))
            part = slice(begin, end)
            arrays = (filled[name][part] for name in filled)
            present = _presenter(own, constants, 4 * CROWD, 1)
            present(shared, greys[part], labels[part], keys[part], *arrays)

        # Small pieces, so that no thread waits for another at the end.
        cuts = np.linspace(0, len(greys), 1 + (1 if self.n_jobs == 1 else min(8 * self.n_jobs, len(greys)))).astype(int)
        with ThreadPoolExecutor(self.n_jobs) as pool:
            list(pool.map(run, cuts[:-1].tolist(), cuts[1:].tolist()))
        return Responses(**filled)

    def evaluated(self, state: SpikingState) -> SpikingState:
        """Return the network that an evaluated sample meets: rested, input weights as `SynapticScaling` sets them."""
        state.check()
        rested = state.rested(self.parameters)
        if self.parameters.input_rule.target is not None:
            rested.weights_in = state.weights_in.clone()
            _kernels().scale(rested.weights_in.numpy(), self.parameters.input_rule.target * state.n_in)
        return rested

    def simulate(
        self,
        state: SpikingState,
        inputs: Bool[Tensor, "time inputs"],
        teacher: Bool[Tensor, "time classes"] | None = None,
        learn: bool = True,
    ) -> Rasters:
        """Replay given spikes: no encoder, no scaling; the state carries over between calls.

        Args:
            state: the network, changed in place.
            inputs: spikes of the input cells.
            teacher: spikes of the class cells in training; without effect unless learning.
            learn: False leaves weights, theta and traces as they are and lets class cells listen to the hidden ones.

        Raises:
            ValueError: if a raster does not fit the network, or is not boolean.
        """
        state.check()
        steps = len(inputs)
        silence = torch.zeros(steps, state.n_classes, dtype=torch.bool)
        teacher = silence if teacher is None else teacher
        for name, raster, cells in (("inputs", inputs, state.n_in), ("teacher", teacher, state.n_classes)):
            if raster.shape != (steps, cells):
                raise ValueError(f"{name} must have the shape {(steps, cells)}, got {tuple(raster.shape)}")
            if raster.dtype != torch.bool:
                raise ValueError(f"{name} must be torch.bool, got {raster.dtype}")
        hidden = torch.zeros(steps, state.n_hidden, dtype=torch.bool)
        rasters = Rasters(hidden, torch.zeros_like(hidden), silence.clone())
        kernels = _kernels()
        kernels.advance(
            _network(state),
            _constants(self.parameters, state, learn, learn),
            steps,
            *_events(inputs),
            *_events(teacher),
            np.zeros(state.n_hidden, np.int32),
            np.zeros(state.n_classes, np.int32),
            kernels.Record(rasters.hidden.numpy(), rasters.inhibitory.numpy(), rasters.classes.numpy()),
        )
        return rasters


def _presenter(network: Any, constants: Any, crowd: int, threads: int) -> Any:
    """Return what presents samples to a network, as front and crowd from a size on. The numbers are the same.

    Nothing that is learned here is negative. Of weights that are, an input's spike cuts those of all cells.
    """
    if len(network.theta) < crowd or not network.weights_in.min() >= 0:
        return functools.partial(_kernels().present, network, constants)
    from aleator.spiking.crowd import Crowd

    return Crowd(network, constants, threads).present


def _kernels() -> Any:
    try:
        import aleator.spiking.kernels as kernels
    except ModuleNotFoundError as error:
        if error.name != "numba":
            raise
        raise ImportError("engine event needs the extra 'spiking': pip install 'aleator[spiking]'") from None
    return kernels


def _events(raster: Tensor) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the cells that spike, step after step, and where each step's begin."""
    spikes = raster.numpy()
    begins = np.zeros(len(spikes) + 1, np.int64)
    np.cumsum(spikes.sum(1), out=begins[1:])
    return np.ascontiguousarray(np.nonzero(spikes)[1]), begins


def _network(state: SpikingState) -> Any:
    """Return NumPy views of the state's tensors."""
    kernels = _kernels()
    arrays = {}
    for name in kernels.Network._fields:
        tensor: Tensor = getattr(state, name)
        if tensor.device.type != "cpu" or tensor.dtype not in (torch.float64, torch.bool):
            raise ValueError(f"{name} must be float64 on the CPU for the event engine, got {tensor.dtype}")
        arrays[name] = tensor.numpy()
    return kernels.Network(**arrays)


def _constants(p: SpikingParameters, state: SpikingState, learn_in: bool, learn_out: bool) -> Any:
    sign = 1.0 if p.symmetric else -1.0
    target_in, target_out = p.input_rule.target or 0.0, p.class_rule.target or 0.0
    values = {
        "dt": p.dt,
        "rate_hidden": p.dt / p.hidden.tau,
        "rate_inhibitory": p.dt / p.inhibitory.tau,
        "rate_class": p.dt / p.classes.tau,
        "rest_hidden": p.hidden.rest,
        "rest_inhibitory": p.inhibitory.rest,
        "rest_class": p.classes.rest,
        "reset_hidden": p.hidden.reset,
        "reset_inhibitory": p.inhibitory.reset,
        "reset_class": p.classes.reset,
        "threshold_hidden": p.hidden.threshold - p.theta_offset,
        "threshold_inhibitory": p.inhibitory.threshold,
        "threshold_class": p.classes.threshold,
        "refractory_hidden": p.hidden.refractory,
        "refractory_inhibitory": p.inhibitory.refractory,
        "floor_hidden": p.hidden.floor,
        "excitation": p.excitation,
        "inhibition": p.inhibition,
        "reversal_excitation": p.reversal_excitation,
        "reversal_inhibition": p.reversal_inhibition,
        "decay_excitation": math.exp(-p.dt / p.tau_excitation),
        "decay_inhibition": math.exp(-p.dt / p.tau_inhibition),
        "decay_trace": 1 - p.dt / p.tau_trace,
        "trace_step": p.trace_step,
        "lr_in": p.input_rule.lr,
        "lr_out": p.class_rule.lr,
        "lr_in_before": sign * p.input_rule.lr,
        "lr_out_before": sign * p.class_rule.lr,
        "w_max_in": p.input_rule.w_max,
        "w_max_out": p.class_rule.w_max,
        "target_in": target_in * state.n_in,
        "target_out": target_out * state.n_hidden,
        "theta_decay": 1 - p.dt / p.tau_theta,
        "theta_step": p.theta_step * (p.theta_offset - p.theta_pole),
        "theta_pole": p.theta_pole,
        "theta_guard": NEAREST_TO_POLE,
        "spike_probability": p.rate_per_grey * p.dt / 1000,
        "teacher_probability": p.teacher_rate * p.dt / 1000,
    }
    # One type per constant, whatever the user wrote, so that the kernels are compiled once.
    constants = {name: float(value) for name, value in values.items()}
    return _kernels().Constants(
        **constants,
        intensity=p.intensity,
        intensity_max=p.intensity_max,
        min_spikes=p.min_spikes,
        stimulus_steps=p.stimulus_steps,
        rest_steps=p.rest_steps,
        learn_in=learn_in,
        learn_out=learn_out,
    )
