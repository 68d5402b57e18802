"""Presentations to a large network: the few cells that may spike run together, and all others each alone.

Between spikes hidden cells have nothing to do with each other, and of thousands a sample makes five or so spike. So a
presentation has a **front**, cells that are not at rest and those whose drive lifts them nearest to their thresholds,
and a **crowd**, the others:

    1. the front runs as a network of its own, on a copy of its weights, learning as it goes;
    2. its inhibition being known now, every cell of the crowd runs through the whole presentation by itself, a tile of
       columns after the other, so that weights pass through memory once;
    3. if a cell of the crowd crossed its threshold, it should have been in the front: put it there and begin anew.
       Otherwise keep what happened.

A wrong guess costs time. What comes out are, bit for bit, the numbers of `aleator.spiking.kernels.present`, whatever
the front and whoever computes a tile. A cell is in the crowd only if nothing in the presentation can change its
weights: it has no trace, and none of its weights is above ``w_max``. So only the front's need to be scaled again.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from aleator.spiking import crowd_kernels, kernels
from aleator.spiking.kernels import Booleans, Constants, Counts, Floats, Integers, Keys, Network, Record

_WANTED = 32  # one cell of so many is guessed into the front at first
_LARGEST = 3  # a front of more than one cell of so many is no front: the network runs as a whole
_LATER = 16  # steps; of cells that cross so much later than the first, its inhibition may make nothing

_Coded = tuple[Integers, Integers, Integers, Integers]  # spikes of an image and of its teacher, and their begins


class Crowd:
    """A large network and the memory to run it in.

    Args:
        net: the network, changed by every presentation.
        constants: its constants, with what is learned.
        threads: that share out the crowd. The results do not depend on them.
    """

    def __init__(self, net: Network, constants: Constants, threads: int = 1) -> None:
        size = len(net.theta)
        self.net, self.constants = net, constants
        self.threads = min(threads, -(-size // crowd_kernels.TILE))
        self.over, self.front = np.zeros(size, np.bool_), np.zeros(size, np.bool_)
        self.drives, self.v, self.g, self.theta = (np.empty(size) for _ in range(4))
        self.crossed = np.empty(size, np.int64)
        self.changed: Integers = np.arange(size)  # cells whose weights may have changed since they were scaled
        self.wanted = max(1, size // _WANTED)

    def present(
        self,
        rest_cells: Network,
        greys: Floats,
        labels: Integers,
        keys: Keys,
        hidden_counts: Counts,
        class_counts: Counts,
        re_presentations: Integers,
        silent: Booleans,
    ) -> None:
        """Do what `aleator.spiking.kernels.present` does; arguments as there."""
        c = self.constants
        learning = c.learn_in or c.learn_out
        with ThreadPoolExecutor(self.threads) as pool:
            for s in range(len(greys)):
                if not learning:
                    kernels.reset(self.net, rest_cells)
                for presentation in range(max(1, c.intensity_max - c.intensity + 1)):
                    self._scale()
                    coded = self._coded(greys[s], int(labels[s]), keys[s], presentation)
                    last = c.intensity + presentation >= c.intensity_max
                    self._once(pool, *coded, last, hidden_counts[s], class_counts[s])
                    re_presentations[s] = presentation
                    silent[s] = hidden_counts[s].sum() < c.min_spikes
                    if not silent[s]:
                        break

    def _scale(self) -> None:
        c = self.constants
        if c.learn_in or c.learn_out:
            crowd_kernels.scale_columns(self.net.weights_in, self.changed, c.target_in, c.w_max_in, self.over)
            self.changed = self.changed[:0]
        if c.learn_out and c.target_out > 0:
            kernels.scale(self.net.weights_out, c.target_out)

    def _coded(self, greys: Floats, label: int, key: np.uint64, presentation: int) -> _Coded:
        """Return the spikes of an image and its teacher, step after step, and where each step's begin."""
        c = self.constants
        rates = greys * (c.spike_probability * (c.intensity + presentation))
        sources, begins = kernels.poisson_events(rates, c.stimulus_steps, key, presentation)
        if not c.learn_out:
            return sources, begins, np.zeros(0, np.int64), np.zeros(c.stimulus_steps + 1, np.int64)
        rates = np.append(np.zeros(len(greys)), c.teacher_probability)  # the channel after the inputs
        teacher, teacher_begins = kernels.poisson_events(rates, c.stimulus_steps, key, presentation)
        teacher[:] = label
        return sources, begins, teacher, teacher_begins

    def _once(
        self,
        pool: ThreadPoolExecutor,
        sources: Integers,
        begins: Integers,
        teacher: Integers,
        teacher_begins: Integers,
        last: bool,
        hidden_counts: Counts,
        class_counts: Counts,
    ) -> None:
        """Present an image, and the rest that follows it: in training, or if it is to be presented again."""
        net, c = self.net, self.constants
        spikes = np.bincount(sources, minlength=len(net.x_input))
        common = self._choose(pool, spikes)
        pending = np.flatnonzero(net.spikes_input)
        arriving = np.concatenate([pending, sources])
        arrivals = np.concatenate([[0], len(pending) + begins])
        while True:
            whole = _LARGEST * np.count_nonzero(self.front) > len(self.front)
            if whole:
                self.front[:] = True
            cells, listened = np.flatnonzero(self.front), self._listened(spikes)
            rows = np.flatnonzero(listened)
            own = net if whole else crowd_kernels.taken(net, rows, cells)
            renumbered = (np.cumsum(listened) - 1)[sources]
            inhibited, taught = int(own.spikes_inhibitory.sum()), own.spikes_class.copy()
            hidden, classes, shown, rest = self._run(own, renumbered, begins, teacher, teacher_begins, last)
            if whole:
                self.changed = cells
                break
            steps = len(shown.hidden) + len(rest.hidden)
            levels = crowd_kernels.inhibition_levels(c, common, inhibited, shown.inhibitory, rest.inhibitory)
            self._follow(pool, arriving, arrivals, levels)
            first = self.crossed.min()
            if first == steps:
                taught |= shown.classes[: len(shown.classes) - (len(rest.classes) == 0)].any(0)
                fired = np.logical_or(shown.hidden.any(0), rest.hidden.any(0))
                parts = own, rows, cells, self.front, self.over, fired, taught
                self.changed = crowd_kernels.settle(net, c, *parts, steps, levels[-1], self.v, self.g, self.theta)
                break
            self.front |= (self.crossed < steps) & (self.crossed <= first + _LATER)
            self.wanted = min(self.wanted + max(1, self.wanted // 8), max(1, len(self.front) // 4))
        self.wanted = max(1, self.wanted - self.wanted // 64)
        hidden_counts[:] = 0
        hidden_counts[cells] = hidden
        class_counts[:] = classes

    def _run(
        self,
        own: Network,
        sources: Integers,
        begins: Integers,
        teacher: Integers,
        teacher_begins: Integers,
        last: bool,
    ) -> tuple[Counts, Counts, Record, Record]:
        """Run the front, or the whole, and return its spikes in the stimulus: how many, and when; and in the rest."""
        c, size = self.constants, len(own.theta)
        hidden, classes = np.zeros(size, np.int32), np.zeros(len(own.v_class), np.int32)
        shown, rest = self._record(c.stimulus_steps, size), self._record(0, size)
        kernels.advance(own, c, c.stimulus_steps, sources, begins, teacher, teacher_begins, hidden, classes, shown)
        if c.learn_in or c.learn_out or (hidden.sum() < c.min_spikes and not last):
            nobody, never = np.zeros(0, np.int64), np.zeros(c.rest_steps + 1, np.int64)
            ignored = np.zeros_like(hidden), np.zeros_like(classes)
            rest = self._record(c.rest_steps, size)
            kernels.advance(own, c, c.rest_steps, nobody, never, nobody, never, *ignored, rest)
        return hidden, classes, shown, rest

    def _choose(self, pool: ThreadPoolExecutor, spikes: Integers) -> float:
        """Set the front, and return the conductance of inhibition of the others."""
        rows = np.flatnonzero(spikes)
        counts = spikes[rows].astype(np.float64)
        weights = self.net.weights_in
        self._share(pool, lambda a, b: crowd_kernels.add_drives(weights, rows, counts, a, b, self.drives))
        common = crowd_kernels.choose(self.net, self.constants, self.over, self.drives, self.wanted, self.front)
        return float(common)

    def _listened(self, spikes: Integers) -> Booleans:
        """Return which inputs matter to the front: those that spike, or have a trace, or weights to cut."""
        net, c = self.net, self.constants
        if self.front.all() or (c.learn_in and self.over.any()):
            return np.ones(len(spikes), np.bool_)
        listened: Booleans = (spikes > 0) | net.spikes_input | (c.learn_in & (net.x_input != 0))
        return listened

    def _follow(self, pool: ThreadPoolExecutor, arriving: Integers, arrivals: Integers, levels: Floats) -> None:
        """Run the crowd."""
        steps, shown = len(levels) - 1, self.constants.stimulus_steps
        begins = np.full(steps + 1, arrivals[-1])
        begins[: len(arrivals)] = arrivals[: steps + 1]
        fixed = self.net, self.constants, self.front, arriving, begins, shown, levels
        self._share(pool, lambda a, b: crowd_kernels.follow(*fixed, a, b, self.v, self.g, self.theta, self.crossed))

    def _share(self, pool: ThreadPoolExecutor, run: Callable[[int, int], None]) -> None:
        """Run a function of begin and end on all cells, in whole tiles, shared out among the threads."""
        size = len(self.front)
        tiles = -(-size // crowd_kernels.TILE)
        cuts = [min(tiles * k // self.threads * crowd_kernels.TILE, size) for k in range(self.threads + 1)]
        if self.threads == 1:
            run(0, size)
        else:
            list(pool.map(run, cuts[:-1], cuts[1:]))

    def _record(self, steps: int, cells: int) -> Record:
        hidden, inhibitory = np.empty((2, steps, cells), np.bool_)
        return Record(hidden, inhibitory, np.empty((steps, len(self.net.v_class)), np.bool_))
