"""The dense-step engine: every cell in every step, in torch, on any device.

It trains online, sample after sample and learning after every step, in the authors' order of operations, like the
event-driven engine and much slower: it is there to be compared with. It evaluates and replays many samples side by
side. In double precision both engines give the same spikes.
"""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from aleator.spiking.batch_cells import BatchCells
from aleator.spiking.engines import Phase, Responses, check_samples, no_responses
from aleator.spiking.event_engine import Rasters
from aleator.spiking.parameters import RuleParameters, SpikingParameters
from aleator.spiking.poisson_tables import Events, poisson_table, raster_of
from aleator.spiking.scaling import SynapticScaling
from aleator.spiking.state import SpikingState
from aleator.spiking.threshold import AdaptiveThreshold


class DenseEngine:
    """Step by step in torch, see `aleator.spiking.engines.Engine`.

    Args:
        parameters: the constants.
        batch_size: samples of an evaluation that run side by side.
        device: where the steps are made. States may be elsewhere.
        dtype: float64, or float32; nothing coarser holds a threshold.

    Raises:
        ValueError: if the batch size is below 1 or the type another one.
    """

    def __init__(
        self,
        parameters: SpikingParameters,
        batch_size: int = 32,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float64,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"dtype must be torch.float32 or torch.float64, got {dtype}")
        self.parameters, self.batch_size, self.device, self.dtype = parameters, batch_size, torch.device(device), dtype
        p = parameters
        self.threshold = AdaptiveThreshold(p.theta_step, p.tau_theta, p.theta_offset, p.theta_pole, dt=p.dt)
        self.trace_decay = 1 - p.dt / p.tau_trace

    @torch.no_grad()
    def train(
        self,
        state: SpikingState,
        greys: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
        phase: Phase,
    ) -> Responses:
        """Present samples one by one and learn after every step, changing the state in place, see `Engine.train`."""
        check_samples(state, greys, keys, labels, phase)
        p = self.parameters
        filled = no_responses(len(greys), state)
        own = state.to(self.device, self.dtype)
        rest = torch.zeros(p.rest_steps, state.n_in, dtype=torch.bool, device=self.device)
        learns = (phase != "classes", phase != "hidden")
        for s in range(len(greys)):
            for presentation in range(p.intensity_max - p.intensity + 1):
                self._scale(own, learns[1])
                one = slice(s, s + 1)
                table, taught = self.coded(greys[one], keys[one], presentation)
                inputs = raster_of(table, p.stimulus_steps)[:, 0]
                teacher = torch.zeros(p.stimulus_steps, state.n_classes, dtype=torch.bool, device=self.device)
                if learns[1]:
                    teacher[:, int(labels[s])] = raster_of(taught, p.stimulus_steps)[:, 0, 0]
                run = self._learn(own, inputs, teacher, *learns)
                self._learn(own, rest, teacher.new_zeros(p.rest_steps, state.n_classes), *learns)
                filled["hidden"][s] = run.hidden.sum(0).cpu().numpy()
                filled["classes"][s] = run.classes.sum(0).cpu().numpy()
                filled["re_presentations"][s] = presentation
                filled["silent"][s] = filled["hidden"][s].sum() < p.min_spikes
                if not filled["silent"][s]:
                    break
        state.load_state_dict(own.to(state.theta.device, state.theta.dtype).state_dict())
        return Responses(**filled)

    @torch.no_grad()
    def evaluate(self, state: SpikingState, greys: npt.NDArray[np.float64], keys: npt.NDArray[np.uint64]) -> Responses:
        """Present samples without learning, each to the rested network, see `Engine.evaluate`."""
        check_samples(state, greys, keys)
        filled = no_responses(len(greys), state)
        rested = state.to(self.device, self.dtype).rested(self.parameters)
        self._scale(rested, False)
        for begin in range(0, len(greys), self.batch_size):
            self._evaluate(rested, greys, keys, np.arange(begin, min(begin + self.batch_size, len(greys))), filled)
        return Responses(**filled)

    @torch.no_grad()
    def simulate(
        self,
        state: SpikingState,
        inputs: Bool[Tensor, "time *batch inputs"],
        teacher: Bool[Tensor, "time classes"] | None = None,
        learn: bool = True,
    ) -> Rasters:
        """Replay given spikes: no encoder, no scaling.

        Args:
            state: the network. It is changed in place and carries over between calls, except by a batch, of which every
                sample starts from it.
            inputs: spikes of the input cells.
            teacher: spikes of the class cells in training; without effect unless learning.
            learn: False leaves weights, theta and traces as they are and lets class cells listen to the hidden ones.

        Raises:
            ValueError: if a raster does not fit the network or is not boolean, or a batch is to be learned: the rule is
                online.
        """
        state.check()
        batch = inputs.shape[1:-1]
        if batch and learn:
            raise ValueError(f"learn must be False for a batch of rasters, got {learn} and a batch of {tuple(batch)}")
        expected = {"inputs": (inputs, (*inputs.shape[:-1], state.n_in))}
        if teacher is not None:
            expected["teacher"] = (teacher, (len(inputs), state.n_classes))
        for name, (raster, shape) in expected.items():
            if raster.shape != shape:
                raise ValueError(f"{name} must have the shape {shape}, got {tuple(raster.shape)}")
            if raster.dtype != torch.bool:
                raise ValueError(f"{name} must be torch.bool, got {raster.dtype}")
        own = state.to(self.device, self.dtype)
        inputs = inputs.to(self.device)
        if learn:
            silence = inputs.new_zeros(len(inputs), state.n_classes)
            rasters = self._learn(own, inputs, silence if teacher is None else teacher.to(self.device), True, True)
        else:
            rasters = self._listen(own, inputs)
        if not batch:
            state.load_state_dict(own.to(state.theta.device, state.theta.dtype).state_dict())
        return Rasters(rasters.hidden.cpu(), rasters.inhibitory.cpu(), rasters.classes.cpu())

    def coded(
        self, greys: npt.NDArray[np.float64], keys: npt.NDArray[np.uint64], presentation: int
    ) -> tuple[Int64[Tensor, "batch inputs spikes"], Int64[Tensor, "batch 1 spikes"]]:
        """Return the tables of spikes, see `poisson_table`, of images [samples, N_in] and of their teachers."""
        p = self.parameters
        scale = p.rate_per_grey * p.dt / 1000 * (p.intensity + presentation)
        probabilities = torch.from_numpy(greys * scale)
        # The teacher is the channel after the inputs.
        probabilities = torch.nn.functional.pad(probabilities, (0, 1), value=p.teacher_rate * p.dt / 1000)
        table = poisson_table(
            probabilities.to(self.device),
            p.stimulus_steps,
            torch.from_numpy(keys.view(np.int64)).to(self.device),
            presentation,
        )
        return table[:, :-1], table[:, -1:]

    def _scale(self, own: SpikingState, classes: bool) -> None:
        p = self.parameters
        if p.input_rule.target is not None:
            own.weights_in = SynapticScaling(p.input_rule.target * own.n_in)(own.weights_in)
        if classes and p.class_rule.target is not None:
            own.weights_out = SynapticScaling(p.class_rule.target * own.n_hidden)(own.weights_out)

    def _evaluate(
        self,
        rested: SpikingState,
        greys: npt.NDArray[np.float64],
        keys: npt.NDArray[np.uint64],
        pending: npt.NDArray[np.int64],
        filled: dict[str, Any],
    ) -> None:
        """Present some samples, and those that stay silent again after a rest."""
        p = self.parameters
        cells = BatchCells(rested, p, (len(pending),))
        for presentation in itertools.count():
            table, _ = self.coded(greys[pending], keys[pending], presentation)
            drives = Events.of(table, p.stimulus_steps).drives(rested.weights_in)
            hidden = torch.zeros(len(pending), rested.n_hidden, dtype=torch.long, device=self.device)
            classes = torch.zeros(len(pending), rested.n_classes, dtype=torch.long, device=self.device)
            for _ in range(p.stimulus_steps):
                self._step(cells, next(drives), rested)
                hidden += cells.spikes_hidden
                classes += cells.spikes_class
            silent = hidden.sum(1) < p.min_spikes
            filled["hidden"][pending] = hidden.cpu().numpy()
            filled["classes"][pending] = classes.cpu().numpy()
            filled["re_presentations"][pending] = presentation
            filled["silent"][pending] = silent.cpu().numpy()
            if not silent.any() or p.intensity + presentation >= p.intensity_max:
                return
            last = next(drives)
            cells.take(silent)
            pending = pending[silent.cpu().numpy()]
            for t in range(p.rest_steps):
                self._step(cells, last[silent] if t == 0 and last is not None else None, rested)

    def _step(self, cells: BatchCells, drive: Tensor | None, own: SpikingState) -> None:
        cells.arrive(drive, own.weights_out)
        cells.advance(own.theta, classes=True)

    def _listen(self, own: SpikingState, inputs: Bool[Tensor, "time *batch inputs"]) -> Rasters:
        """Make steps without learning."""
        cells = BatchCells(own, self.parameters, tuple(inputs.shape[1:-1]))
        rasters = []
        arriving = own.spikes_input.expand_as(inputs[0])
        for spikes in inputs:
            self._step(cells, arriving.to(self.dtype) @ own.weights_in, own)
            arriving = spikes
            rasters.append((cells.spikes_hidden, cells.spikes_inhibitory, cells.spikes_class))
        if inputs.ndim == 2:
            cells.store(own)
            own.spikes_input.copy_(arriving)
        return Rasters(*(torch.stack(raster) for raster in zip(*rasters, strict=True)))

    def _learn(
        self,
        own: SpikingState,
        inputs: Bool[Tensor, "time inputs"],
        teacher: Bool[Tensor, "time classes"],
        learn_in: bool,
        learn_out: bool,
    ) -> Rasters:
        """Make steps and learn after each, changing the state on this engine's device in place."""
        p, decay, step = self.parameters, self.trace_decay, self.parameters.trace_step
        cells = BatchCells(own, p, ())
        rasters = []
        for spikes, taught in zip(inputs, teacher, strict=True):
            # 1. Spikes of the step before arrive, presynaptic plasticity.
            hidden, taught_before = cells.spikes_hidden, cells.spikes_class
            cells.arrive(own.weights_in[own.spikes_input].sum(0), own.weights_out)
            if learn_in:
                self._raise_rows(own.weights_in, own.spikes_input, own.x_hidden_post, p.input_rule)
                own.x_input[own.spikes_input] += step
            if learn_out:
                self._raise_rows(own.weights_out, hidden, own.x_class, p.class_rule)
                own.x_hidden_pre[hidden] += step
            # 2. Postsynaptic plasticity.
            if learn_in:
                _raise_columns(own.weights_in, hidden, own.x_input, p.input_rule)
                own.x_hidden_post[hidden] += step
            if learn_out:
                _raise_columns(own.weights_out, taught_before, own.x_hidden_pre, p.class_rule)
                own.x_class[taught_before] += step
            # 3. The cells advance. As in the authors' program, an input's trace does not decay in the step after a
            # spike, when the input rests.
            if learn_in:
                own.theta.copy_(self.threshold.decayed(own.theta, 1))
            cells.advance(own.theta, classes=not learn_out)
            if learn_in:
                own.theta.copy_(self.threshold.gained(own.theta, cells.spikes_hidden.to(self.dtype)))
                own.x_input = torch.where(own.spikes_input, own.x_input, own.x_input * decay)
                own.x_hidden_post *= decay
            if learn_out:
                cells.spikes_class = taught
                own.x_hidden_pre *= decay
                own.x_class *= decay
            own.spikes_input.copy_(spikes)
            rasters.append((cells.spikes_hidden, cells.spikes_inhibitory, cells.spikes_class))
        cells.store(own)
        return Rasters(*(torch.stack(raster) for raster in zip(*rasters, strict=True)))

    def _raise_rows(
        self,
        weights: Float[Tensor, "pre post"],
        spikes: Bool[Tensor, " pre"],
        traces: Float[Tensor, " post"],
        rule: RuleParameters,
    ) -> None:
        lr = rule.lr if self.parameters.symmetric else -rule.lr
        weights[spikes] = (weights[spikes] + lr * traces).clamp(0, rule.w_max)


def _raise_columns(
    weights: Float[Tensor, "pre post"],
    spikes: Bool[Tensor, " post"],
    traces: Float[Tensor, " pre"],
    rule: RuleParameters,
) -> None:
    weights[:, spikes] = (weights[:, spikes] + rule.lr * traces[:, None]).clamp(max=rule.w_max)
