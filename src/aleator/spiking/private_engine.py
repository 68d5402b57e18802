"""The private-copy engine: every sample of a batch learns online on a copy of the network; the changes are summed.

    W ← W + Σ_b (W_b − W),      theta ← decay · (theta + Σ_b dtheta_b)

where W_b and theta_b are what the online rule, after a presentation of sample b alone, has made of W and theta. For one
sample this is the online rule. Plasticity goes on in the rest after a sample, which is therefore simulated.

A copy is cheap. A sample changes the weights of the hidden cells that spike in it, 5 to 30 of them, and of no other, as
traces start at 0; so the copy has a slot for a column of weights per such cell, filled when the cell spikes first. How
many slots are needed, and how many cells of a sample spike in one step, is known only afterwards: a batch for which
there was too little room runs again with twice as much. So nothing waits for the device inside a presentation.

Weights above ``w_max``, as scaling may make them, are cut when they are strengthened; the online rule also cuts them
when their input spikes and there is nothing to strengthen. Everything else of a batch is as in `FrozenEngine`.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn.functional import one_hot, pad

from aleator.spiking.batch_cells import BatchCells
from aleator.spiking.engines import Phase
from aleator.spiking.frozen_engine import Changes, FrozenEngine
from aleator.spiking.poisson_tables import Events, raster_of
from aleator.spiking.state import SpikingState


class PrivateEngine(FrozenEngine):
    """Learns from batches of private copies, see the module; arguments as for `FrozenEngine`."""

    _slots, _together = 32, 4  # room in a copy for cells that spike at all, and in one step

    def _changes(
        self,
        own: SpikingState,
        table: Int64[Tensor, "batch inputs spikes"],
        taught: Int64[Tensor, "batch 1 spikes"],
        labels: Int64[Tensor, " batch"],
        phase: Phase,
    ) -> Changes:
        while True:
            slots, together = min(self._slots, own.n_hidden), min(self._together, own.n_hidden)
            run = _Run(self, own, table, taught, labels, phase, slots, together)
            changes = run.changes()
            needed_slots, needed_together = run.needed.tolist()
            if needed_slots <= slots and needed_together <= together:
                return changes
            while self._slots < needed_slots:
                self._slots *= 2
            while self._together < needed_together:
                self._together *= 2


class _Run:
    """A batch of presentations. Inputs and hidden cells have one more place, for what fills lists up."""

    def __init__(
        self,
        engine: PrivateEngine,
        own: SpikingState,
        table: Tensor,
        taught: Tensor,
        labels: Tensor,
        phase: Phase,
        slots: int,
        together: int,
    ) -> None:
        p, device, dtype = engine.parameters, engine.device, engine.dtype
        self.engine, self.parameters, self.own, self.labels, self.phase = engine, p, own, labels, phase
        self.slots, self.together, self.batch = slots, together, len(table)
        self.events = Events.of(table, p.stimulus_steps)
        self.sources = self.events.listed(fill=own.n_in)
        self.teacher = raster_of(taught, p.stimulus_steps)[..., 0]
        self.columns = pad(own.weights_in.T, (0, 1, 0, 1))  # [N_h + 1, N_in + 1]
        batch, n_in, n_hidden = self.batch, own.n_in, own.n_hidden
        self.copies = torch.zeros(batch, slots + 1, n_in + 1, dtype=dtype, device=device)
        self.cell_of = torch.full((batch, slots + 1), n_hidden, device=device)
        self.slot_of = torch.full((batch, n_hidden + 1), slots, device=device)
        self.used = torch.zeros(batch, dtype=torch.long, device=device)
        self.needed = torch.zeros(2, dtype=torch.long, device=device)
        self.x_input = torch.zeros(batch, n_in + 1, dtype=dtype, device=device)
        self.x_post = torch.zeros(batch, n_hidden + 1, dtype=dtype, device=device)
        # Of the class cells only the right one ever spikes: a copy of its weights, and its trace.
        self.copies_out = own.weights_out.T[labels].clone()
        self.x_pre = torch.zeros(batch, n_hidden, dtype=dtype, device=device)
        self.x_class = torch.zeros(batch, 1, dtype=dtype, device=device)
        self.rows = torch.arange(batch, device=device)[:, None]

    def changes(self) -> Changes:
        p, own, engine = self.parameters, self.own, self.engine
        cells = BatchCells(own.rested(p), p, (self.batch,))
        theta = own.theta.expand(self.batch, -1)
        hidden = torch.zeros(self.batch, own.n_hidden, dtype=torch.long, device=theta.device)
        drives = self.events.drives(own.weights_in)
        sources = None
        taught = torch.zeros_like(self.teacher[0])
        silence = torch.zeros_like(self.teacher[0])
        for t in range(p.stimulus_steps + p.rest_steps):
            drive = next(drives, None)
            if self.phase == "classes":
                cells.arrive(drive, None)
            else:
                cells.arrive(self._learn_in(drive, sources, cells.spikes_hidden), None)
            if self.phase != "hidden":
                self._learn_out(cells.spikes_hidden, taught)
            cells.advance(theta, classes=False)
            shown = t < p.stimulus_steps
            if shown:
                hidden += cells.spikes_hidden
            if self.phase != "classes":
                theta = engine.threshold.gained(theta, cells.spikes_hidden.to(theta.dtype))
            self._decay(sources)
            sources = self.sources[t] if shown else None
            taught = self.teacher[t] if shown else silence
        learned = 0 if self.phase == "hidden" else self.teacher.sum(0)[:, None]  # otherwise the teacher is not there
        counts = one_hot(self.labels, own.n_classes) * learned
        return Changes(*self._summed(), (theta - own.theta).double().sum(0), hidden, counts)

    def _learn_in(
        self, drive: Tensor | None, sources: Tensor | None, hidden: Bool[Tensor, "batch hidden"]
    ) -> Tensor | None:
        """Learn from the spikes of the last step, and return their drive, the copies' in place of the network's."""
        rule, step = self.parameters.input_rule, self.parameters.trace_step
        if drive is not None and sources is not None:
            places = sources[:, None].expand(-1, self.slots + 1, -1)
            weights = self.copies.gather(2, places)
            drive = pad(drive, (0, 1)).scatter_(1, self.cell_of, weights.sum(2))[:, :-1]
            lr = rule.lr if self.parameters.symmetric else -rule.lr
            traces = self.x_post.gather(1, self.cell_of)[..., None]
            self.copies.scatter_(2, places, (weights + lr * traces).clamp(0, rule.w_max))
            self.copies[..., -1] = 0
            self.x_input.scatter_add_(1, sources, torch.full_like(self.x_input[:, :1], step).expand_as(sources))
            self.x_input[:, -1] = 0
        if hidden.device.type == "cpu" and not hidden.any():
            return drive  # no device waits for the question here

        spikes, found = hidden.to(self.x_post.dtype).topk(self.together, 1)
        valid = spikes > 0
        cells = torch.where(valid, found, self.own.n_hidden)
        slot = self.slot_of.gather(1, cells)
        new = valid & (slot == self.slots)
        fresh = (self.used[:, None] + new.cumsum(1) - 1).clamp(max=self.slots)
        slot = torch.where(new, fresh, slot)
        self.used += new.sum(1)
        self.slot_of.scatter_(1, cells, slot)
        self.cell_of.scatter_(1, slot, cells)
        weights = torch.where(new[..., None], self.columns[cells], self.copies[self.rows, slot])
        self.copies[self.rows, slot] = (weights + rule.lr * self.x_input[:, None]).clamp(max=rule.w_max)
        self.x_post.scatter_add_(1, cells, step * spikes)
        self.needed = torch.maximum(self.needed, torch.stack([self.used.max(), hidden.sum(1).max()]))
        return drive

    def _learn_out(self, hidden: Bool[Tensor, "batch hidden"], taught: Bool[Tensor, " batch"]) -> None:
        rule, step = self.parameters.class_rule, self.parameters.trace_step
        lr = rule.lr if self.parameters.symmetric else -rule.lr
        raised = (self.copies_out + lr * self.x_class).clamp(0, rule.w_max)
        self.copies_out = torch.where(hidden, raised, self.copies_out)
        self.x_pre.add_(hidden, alpha=step)
        raised = (self.copies_out + rule.lr * self.x_pre).clamp(max=rule.w_max)
        self.copies_out = torch.where(taught[:, None], raised, self.copies_out)
        self.x_class.add_(taught[:, None], alpha=step)

    def _decay(self, sources: Tensor | None) -> None:
        """Let traces decay, but not where the inputs spiked in the step before, as in the authors' program."""
        decay = self.engine.trace_decay
        kept = None if sources is None else self.x_input.gather(1, sources)
        for traces in (self.x_input, self.x_post, self.x_pre, self.x_class):
            traces *= decay
        if sources is not None and kept is not None:
            self.x_input.scatter_(1, sources, kept)

    def _summed(self) -> tuple[Float[Tensor, "inputs hidden"], Float[Tensor, "hidden classes"]]:
        own = self.own
        change_in = torch.zeros_like(self.columns)
        change_in.index_add_(0, self.cell_of.flatten(), (self.copies - self.columns[self.cell_of]).flatten(0, 1))
        change_out = torch.zeros_like(own.weights_out.T)
        change_out.index_add_(0, self.labels, self.copies_out - own.weights_out.T[self.labels])
        return change_in[:-1, :-1].T, change_out.T
