"""The frozen-batch engine: a batch of samples against one network, then the sum of what each would have changed.

    dW = Σ_b Σ_t nu ( s_pre(t) x_post(t)ᵀ + x_pre(t) s_post(t)ᵀ ),      theta ← decay · (theta + Σ_b dtheta_b)

W stands still while the batch runs; theta adapts privately inside a sample. Changes are summed, never averaged: an
average over B learns B times slower. Then weights are cut at ``w_max``; before the next batch they are scaled.

A postsynaptic spike is rare, one in 25 steps of a whole sample. So the first of the two sums is turned around, from the
past of the postsynaptic cell to the future of the presynaptic one,

    Σ_t s_pre(t) x_post(t)ᵀ = Σ_k z_pre(k) s_post(k)ᵀ,      z_pre(k) = A Σ_{t > k} s_pre(t) f^(t − k),   f = 1 − dt/tau

which is exact, and both become one product over the postsynaptic spikes only.

A published network learns online (batch 1). This form is our reconstruction for devices that like batches. Every
presentation starts from the rested network with traces at 0, there is no plasticity in the rest after it, so that the
rest need not be simulated. The silent samples of a batch are a batch of their own, at a higher intensity, before the
next one.

Y. Hao et al., arXiv 1812.06574, for the rule.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot

from aleator.spiking.batch_cells import BatchCells
from aleator.spiking.dense_engine import DenseEngine
from aleator.spiking.engines import Phase, Responses, check_samples, no_responses
from aleator.spiking.parameters import SpikingParameters
from aleator.spiking.poisson_tables import Events, traces_at
from aleator.spiking.state import SpikingState


class Changes(NamedTuple):
    """What some presentations change, summed over them.

    Attributes:
        weights_in: input → E.
        weights_out: E → class cells.
        theta: gains of the thresholds.
        hidden: spikes of the hidden cells of each presentation.
        classes: of its class cells, that is of the teacher.
    """

    weights_in: Float[Tensor, "inputs hidden"]
    weights_out: Float[Tensor, "hidden classes"]
    theta: Float[Tensor, " hidden"]
    hidden: Int64[Tensor, "batch hidden"]
    classes: Int64[Tensor, "batch classes"]


class FrozenEngine(DenseEngine):
    """Learns from batches against frozen weights, see the module; evaluates as `DenseEngine` does.

    Several processes: each is given all samples, takes its part of every batch, and all add up their changes, so the
    weights are the same as with one process.

    Args:
        parameters: the constants.
        batch_size: presentations in a batch, over all processes.
        device: where the steps are made. States may be elsewhere.
        dtype: float32 or float64.
        process_group: the processes that share batches; None for this one alone.

    Raises:
        ValueError: if the batch size is below 1 or the type another one.
    """

    def __init__(
        self,
        parameters: SpikingParameters,
        batch_size: int = 32,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        process_group: dist.ProcessGroup | None = None,
    ) -> None:
        super().__init__(parameters, batch_size, device, dtype)
        self.process_group = process_group

    @torch.no_grad()
    def train(
        self,
        state: SpikingState,
        greys: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
        phase: Phase,
    ) -> Responses:
        """Present samples in batches and learn after each, changing the state in place, see `Engine.train`."""
        check_samples(state, greys, keys, labels, phase)
        p = self.parameters
        filled = no_responses(len(greys), state)
        own = state.to(self.device, self.dtype)
        theta = state.theta.to(self.device)  # gains of a batch are small beside it: as precise as it came
        for begin in range(0, len(greys), self.batch_size):
            now = np.arange(begin, min(begin + self.batch_size, len(greys)))
            for presentation in itertools.count():
                self._scale(own, phase != "hidden")
                own.theta = theta.to(self.dtype)
                changes = self._shared(own, greys[now], labels[now], keys[now], presentation, phase)
                own.weights_in = changed(own.weights_in, changes.weights_in, p.input_rule.w_max)
                own.weights_out = changed(own.weights_out, changes.weights_out, p.class_rule.w_max)
                if phase != "classes":
                    steps = len(now) * (p.stimulus_steps + p.rest_steps)
                    theta = self.threshold.decayed(theta + changes.theta, steps)
                silent = (changes.hidden.sum(1) < p.min_spikes).cpu().numpy()
                filled["hidden"][now] = changes.hidden.cpu().numpy()
                filled["classes"][now] = changes.classes.cpu().numpy()
                filled["re_presentations"][now] = presentation
                filled["silent"][now] = silent
                now = now[silent]
                if not len(now) or p.intensity + presentation >= p.intensity_max:
                    break
        for field, learned in ((state.weights_in, own.weights_in), (state.weights_out, own.weights_out)):
            field.copy_(learned)
        state.theta.copy_(theta)
        return Responses(**filled)

    def _shared(
        self,
        own: SpikingState,
        greys: npt.NDArray[np.float64],
        labels: npt.NDArray[np.int64],
        keys: npt.NDArray[np.uint64],
        presentation: int,
        phase: Phase,
    ) -> Changes:
        """Return the changes of a batch, of which every process runs its part."""
        group = self.process_group
        rank, size = (0, 1) if group is None else (group.rank(), group.size())
        part = np.arange(len(greys))[rank::size]
        hidden = torch.zeros(len(greys), own.n_hidden, dtype=torch.long, device=self.device)
        classes = torch.zeros(len(greys), own.n_classes, dtype=torch.long, device=self.device)
        sums = [torch.zeros_like(field) for field in (own.weights_in, own.weights_out, own.theta.double())]
        if len(part):
            table, taught = self.coded(greys[part], keys[part], presentation)
            of_class = torch.from_numpy(labels[part]).to(self.device)
            found = self._changes(own, table, taught, of_class, phase)
            sums = [each.contiguous() for each in found[:3]]
            hidden[part], classes[part] = found.hidden, found.classes
        if group is not None:
            for each in (*sums, hidden, classes):
                dist.all_reduce(each, group=group)  # the sum
        return Changes(sums[0], sums[1], sums[2], hidden, classes)

    def _changes(
        self,
        own: SpikingState,
        table: Int64[Tensor, "batch inputs spikes"],
        taught: Int64[Tensor, "batch 1 spikes"],
        labels: Int64[Tensor, " batch"],
        phase: Phase,
    ) -> Changes:
        """Return what presentations change, given the tables of their spikes and of their teachers'."""
        p, steps, batch = self.parameters, self.parameters.stimulus_steps, len(table)
        cells = BatchCells(own.rested(p), p, (batch,))
        theta = own.theta.expand(batch, -1)
        spikes = torch.zeros(steps, batch, own.n_hidden, dtype=torch.bool, device=self.device)
        for t, drive in zip(range(steps), Events.of(table, steps).drives(own.weights_in), strict=False):
            cells.arrive(drive, None)
            cells.advance(theta, classes=False)
            spikes[t] = cells.spikes_hidden
            if phase != "classes":
                theta = self.threshold.gained(theta, cells.spikes_hidden.to(self.dtype))

        times, samples = spikes.any(2).nonzero().unbind(1)  # the rows of the products
        post = spikes[times, samples].to(self.dtype)
        change_in, change_out = torch.zeros_like(own.weights_in), torch.zeros_like(own.weights_out)
        counts = torch.zeros(batch, own.n_classes, dtype=torch.long, device=self.device)
        where = (times, samples, self.trace_decay)
        sign = 1.0 if p.symmetric else -1.0  # of what presynaptic spikes do
        if phase != "classes":
            past, future = traces_at(table, *where, steps=steps, own_step_is_past=True, stretched=True)
            pre = (past + sign * future).to(self.dtype)
            change_in = p.input_rule.lr * p.trace_step * (pre.T @ post)
        if phase != "hidden":
            # Here the hidden cells are presynaptic, and what is read at their spikes is the teacher's trace.
            past, future = traces_at(taught, *where, steps=steps, own_step_is_past=False, stretched=False)
            teacher = (sign * past + future) * one_hot(labels, own.n_classes)[samples]
            change_out = p.class_rule.lr * p.trace_step * (post.T @ teacher.to(self.dtype))
            counts[torch.arange(batch, device=self.device), labels] = (taught < steps).sum((1, 2))
        return Changes(change_in, change_out, (theta - own.theta).double().sum(0), spikes.sum(0), counts)


def changed(
    weights: Float[Tensor, "pre post"], change: Float[Tensor, "pre post"], w_max: float
) -> Float[Tensor, "pre post"]:
    """Return weights + change, in [0, w_max] where there is a change."""
    return torch.where(change != 0, (weights + change).clamp(0, w_max), weights)
