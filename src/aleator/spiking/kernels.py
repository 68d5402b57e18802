"""The network's steps, compiled: the loops of `aleator.spiking.EventEngine`.

A step t does, in this order:

    1. spikes of step t − 1 arrive: conductances rise, then presynaptic plasticity, then the presynaptic trace rises;
    2. postsynaptic plasticity for spikes of t − 1, then the postsynaptic trace rises;
    3. every cell advances by one Euler step, conductances and traces decay, the spikes of t are noted.

Only spikes cost a pass over a row (input) or a column (hidden cell) of the weights; everything else in a step is a few
passes over vectors. Sums run in ascending order of cells, so the numbers do not depend on how a run is cut into calls.

All kernels are in one file because numba's cache of a kernel does not see changes of what it calls in another one.
Values that only ever decay are set to zero far below what could change a sum: numbers near 1e-308 are slow.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Counts = npt.NDArray[np.int32]
Booleans = npt.NDArray[np.bool_]
Keys = npt.NDArray[np.uint64]

_F = TypeVar("_F", bound=Callable[..., object])

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_MIX1, _MIX2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_11, _27, _30, _31, _ONE = np.uint64(11), np.uint64(27), np.uint64(30), np.uint64(31), np.uint64(1)
_TINY = 1e-150  # far below an ulp of anything it is added to
_NO_TRACE = 1e-25  # far below an ulp of any weight that matters; a trace gets there in two or three samples
_FEW = 4  # a list of fewer than one cell of so many is faster than a pass over all
_FLUSH_EVERY = 256  # steps; in these a conductance falls by a factor of 1e-56 at most


def _compiled(function: _F) -> _F:
    # unwrap: the test run's import hook puts a wrapper around every function that numba could not compile.
    return cast(_F, numba.njit(cache=True, nogil=True)(inspect.unwrap(function)))


def _part(function: _F) -> _F:
    # A part of a step, pasted into the loop, and without counting references: those to all arrays of the network, in
    # every step, would take as long as the step.
    compiled: Any = numba.njit
    return cast(_F, compiled(forceinline=True, _nrt=False)(inspect.unwrap(function)))


class Network(NamedTuple):
    """The fields of `aleator.spiking.state.SpikingState` as arrays, in their order."""

    weights_in: Floats
    weights_out: Floats
    theta: Floats
    v_hidden: Floats
    v_inhibitory: Floats
    v_class: Floats
    timer_hidden: Floats
    timer_inhibitory: Floats
    g_input: Floats
    g_inhibition: Floats
    g_partner: Floats
    g_class: Floats
    x_input: Floats
    x_hidden_post: Floats
    x_hidden_pre: Floats
    x_class: Floats
    spikes_input: Booleans
    spikes_hidden: Booleans
    spikes_inhibitory: Booleans
    spikes_class: Booleans


class Constants(NamedTuple):
    """The constants of `aleator.spiking.SpikingParameters` as the loops need them, with what is learned."""

    dt: float
    rate_hidden: float  # dt / tau of the membranes
    rate_inhibitory: float
    rate_class: float
    rest_hidden: float
    rest_inhibitory: float
    rest_class: float
    reset_hidden: float
    reset_inhibitory: float
    reset_class: float
    threshold_hidden: float  # without the offset of theta
    threshold_inhibitory: float
    threshold_class: float
    refractory_hidden: float
    refractory_inhibitory: float
    floor_hidden: float
    excitation: float
    inhibition: float
    reversal_excitation: float
    reversal_inhibition: float
    decay_excitation: float
    decay_inhibition: float
    decay_trace: float
    trace_step: float
    lr_in: float
    lr_out: float
    lr_in_before: float  # of presynaptic spikes; negative in the asymmetric rule
    lr_out_before: float
    w_max_in: float
    w_max_out: float
    target_in: float  # 0: no scaling
    target_out: float
    theta_decay: float  # factor of a step
    theta_step: float  # times |offset − pole|
    theta_pole: float
    theta_guard: float
    intensity: int
    intensity_max: int
    min_spikes: int
    stimulus_steps: int
    rest_steps: int
    spike_probability: float  # of a step, per grey level and unit of intensity
    teacher_probability: float
    learn_in: bool
    learn_out: bool


class Record(NamedTuple):
    """Rasters [time, cells] to fill; of no steps if nothing is to be recorded."""

    hidden: Booleans
    inhibitory: Booleans
    classes: Booleans


@_compiled
def _mixed(z: np.uint64) -> np.uint64:
    z = (z ^ (z >> _30)) * _MIX1
    z = (z ^ (z >> _27)) * _MIX2
    return z ^ (z >> _31)


@_compiled
def _gap(key: np.uint64, n: int, slope: float) -> float:
    """Return ⌊ln u / ln(1 − p)⌋ with the n-th uniform number of a key."""
    z = _mixed(key + (np.uint64(n) + _ONE) * _GOLDEN)
    u = (np.float64(z >> _11) + 0.5) * 2.0**-53
    return math.floor(math.log(u) / slope)


@_compiled
def _longer(values: Integers, capacity: int) -> Integers:
    longer = np.empty(capacity, np.int64)
    longer[: len(values)] = values
    return longer


@_compiled
def poisson_events(probabilities: Floats, steps: int, key: np.uint64, presentation: int) -> tuple[Integers, Integers]:
    """Return the spikes of `aleator.spiking.PoissonEncoder` sorted by step: sources, and where each step's begin."""
    presented = _mixed(key + (np.uint64(presentation) + _ONE) * _GOLDEN)
    begins = np.zeros(steps + 1, np.int64)
    capacity = 1024
    times = np.empty(capacity, np.int64)
    channels = np.empty(capacity, np.int64)
    count = 0
    for channel in range(len(probabilities)):
        p = probabilities[channel]
        if p <= 0.0:
            continue
        slope = math.log1p(-p) if p < 1.0 else -math.inf
        own = _mixed(presented + (np.uint64(channel) + _ONE) * _GOLDEN)
        now = _gap(own, 0, slope)
        n = 1
        while now < steps:
            if count == capacity:
                capacity *= 2
                times, channels = _longer(times, capacity), _longer(channels, capacity)
            t = int(now)
            times[count] = t
            channels[count] = channel
            count += 1
            begins[t + 1] += 1
            now = now + 2.0 + _gap(own, n, slope)
            n += 1
    for t in range(steps):
        begins[t + 1] += begins[t]
    sources = np.empty(count, np.int64)
    place = begins[:-1].copy()
    for k in range(count):  # channels come in ascending order, and so they stay within a step
        sources[place[times[k]]] = channels[k]
        place[times[k]] += 1
    return sources, begins


@_compiled
def scale(weights: Floats, target: float) -> None:
    """Scale every column to the target, in place, but those that sum to it up to rounding, or to 0."""
    factors = np.zeros(weights.shape[1])
    for i in range(weights.shape[0]):
        row = weights[i]
        for j in range(weights.shape[1]):
            factors[j] += row[j]
    # A scaled column sums to the target up to this, so that scaling it again changes nothing.
    tolerance = target * weights.shape[0] * 2.0**-52
    columns = np.empty(weights.shape[1], np.int64)
    count = 0
    for j in range(weights.shape[1]):
        if factors[j] != 0.0 and not abs(factors[j] - target) <= tolerance:
            columns[count], factors[count] = j, target / factors[j]
            count += 1
    for i in range(weights.shape[0]):
        row = weights[i]
        for k in range(count):
            w = row[columns[k]] * factors[k]
            row[columns[k]] = w if w > _TINY else 0.0


@_compiled
def _flush(values: Floats, least: float) -> None:
    for k in range(len(values)):
        values[k] = values[k] if values[k] > least else 0.0


@_compiled
def _decay(values: Floats, factor: float) -> None:
    for k in range(len(values)):
        values[k] *= factor


@_compiled
def _raise_row(row: Floats, traces: Floats, lr: float, w_max: float) -> None:
    for k in range(len(row)):
        w = row[k] + lr * traces[k]
        w = w if w < w_max else w_max
        row[k] = w if w > 0.0 else 0.0


@_compiled
def _raise_column(weights: Floats, column: int, traces: Floats, lr: float, w_max: float) -> None:
    for k in range(len(traces)):
        w = weights[k, column] + lr * traces[k]
        weights[k, column] = w if w < w_max else w_max


@_compiled
def _traced(traces: Floats, cells: Integers) -> int:
    """List the cells that have a trace, and return how many they are."""
    count = 0
    for k in range(len(traces)):
        if traces[k] != 0.0:
            cells[count] = k
            count += 1
    return count


@_compiled
def _listed(spikes: Booleans, cells: Integers) -> int:
    count = 0
    for k in range(len(spikes)):
        if spikes[k]:
            cells[count] = k
            count += 1
    return count


@_part
def _deliver_inputs(net: Network, c: Constants, cells: Integers, count: int, traced: Integers, n_traced: int) -> None:
    """Let input spikes arrive at E, and learn from them."""
    g, x = net.g_input, net.x_hidden_post
    few = n_traced * _FEW < len(g)
    for k in range(count):
        row = net.weights_in[cells[k]]
        if not c.learn_in:
            for j in range(len(g)):
                g[j] += row[j]
            continue
        outside = 0  # weights that the rule cuts although there is nothing to learn
        if few:
            for j in range(len(g)):
                g[j] += row[j]
                outside += (row[j] > c.w_max_in) | (row[j] < 0.0)
        else:
            for j in range(len(g)):
                g[j] += row[j]
        if few and outside == 0:
            for m in range(n_traced):
                w = row[traced[m]] + c.lr_in_before * x[traced[m]]
                w = w if w < c.w_max_in else c.w_max_in
                row[traced[m]] = w if w > 0.0 else 0.0
        else:
            _raise_row(row, x, c.lr_in_before, c.w_max_in)
        net.x_input[cells[k]] += c.trace_step


@_part
def _deliver_hidden(net: Network, c: Constants, cells: Integers, count: int) -> None:
    """Let E spikes arrive at their partners and at the class cells, and learn from them as presynaptic ones."""
    g = net.g_class
    for k in range(count):
        net.g_partner[cells[k]] += c.excitation
        row = net.weights_out[cells[k]]
        for o in range(len(g)):
            g[o] += row[o]
        if c.learn_out:
            _raise_row(row, net.x_class, c.lr_out_before, c.w_max_out)
            net.x_hidden_pre[cells[k]] += c.trace_step


@_part
def _deliver_inhibition(net: Network, c: Constants, cells: Integers, count: int) -> None:
    """Let I spikes arrive at all E but their partner; rank one instead of a matrix."""
    if count > 0:
        g, total = net.g_inhibition, c.inhibition * count
        for j in range(len(g)):
            g[j] += total
        for k in range(count):
            g[cells[k]] += c.inhibition * (count - 1) - total


@_part
def _learn_from_hidden(net: Network, c: Constants, cells: Integers, count: int, traced: Integers, n_traced: int) -> int:
    """Learn from E spikes as postsynaptic ones, which see the raised traces of the inputs; list new traces of E."""
    if c.learn_in:
        for k in range(count):
            _raise_column(net.weights_in, cells[k], net.x_input, c.lr_in, c.w_max_in)
            listed = net.x_hidden_post[cells[k]] != 0.0 or c.trace_step == 0.0
            for m in range(n_traced):  # a trace that was short may have vanished since it was listed
                listed = listed or traced[m] == cells[k]
            if not listed:
                traced[n_traced] = cells[k]
                n_traced += 1
            net.x_hidden_post[cells[k]] += c.trace_step
    return n_traced


@_part
def _learn_from_classes(net: Network, c: Constants, cells: Integers, count: int) -> None:
    """Learn from spikes of the class cells, likewise."""
    if c.learn_out:
        for k in range(count):
            _raise_column(net.weights_out, cells[k], net.x_hidden_pre, c.lr_out, c.w_max_out)
            net.x_class[cells[k]] += c.trace_step


@_part
def _step_hidden(net: Network, c: Constants, spiking: Integers) -> int:
    """Advance E and its traces; list the cells that spike, and return how many they are."""
    v, timer, theta, g, gi = net.v_hidden, net.timer_hidden, net.theta, net.g_input, net.g_inhibition
    theta_decay = c.theta_decay if c.learn_in else 1.0
    fired = 0
    for j in range(len(v)):
        before, clock = v[j], timer[j]
        current = c.rest_hidden - before
        current = current + g[j] * (c.reversal_excitation - before)
        current = current + gi[j] * (c.reversal_inhibition - before)
        now = before + current * c.rate_hidden
        now = now if clock > c.refractory_hidden else before
        now = now if now > c.floor_hidden else c.floor_hidden
        clock += c.dt
        height = theta[j] * theta_decay
        v[j], timer[j], theta[j] = now, clock, height
        g[j] *= c.decay_excitation
        gi[j] *= c.decay_inhibition
        fired += (now > height + c.threshold_hidden) & (clock > c.refractory_hidden)
    if c.learn_in:
        _decay(net.x_hidden_post, c.decay_trace)
    if c.learn_out:
        _decay(net.x_hidden_pre, c.decay_trace)
    count = 0
    if fired > 0:  # the loop above has no branch, and so is fast
        for j in range(len(v)):
            if v[j] > theta[j] + c.threshold_hidden and timer[j] > c.refractory_hidden:
                v[j], timer[j] = c.reset_hidden, 0.0
                spiking[count] = j
                count += 1
                if c.learn_in:
                    theta[j] += c.theta_step / max(abs(theta[j] - c.theta_pole), c.theta_guard)
    return count


@_part
def _step_inhibitory(net: Network, c: Constants, spiking: Integers) -> int:
    """Advance the partners I, likewise."""
    v, timer, g = net.v_inhibitory, net.timer_inhibitory, net.g_partner
    fired = 0
    for j in range(len(v)):
        before, clock = v[j], timer[j]
        current = c.rest_inhibitory - before
        current = current + g[j] * (c.reversal_excitation - before)
        now = before + current * c.rate_inhibitory
        now = now if clock > c.refractory_inhibitory else before
        clock += c.dt
        v[j], timer[j] = now, clock
        g[j] *= c.decay_excitation
        fired += (now > c.threshold_inhibitory) & (clock > c.refractory_inhibitory)
    count = 0
    if fired > 0:
        for j in range(len(v)):
            if v[j] > c.threshold_inhibitory and timer[j] > c.refractory_inhibitory:
                v[j], timer[j] = c.reset_inhibitory, 0.0
                spiking[count] = j
                count += 1
    return count


@_part
def _step_classes(net: Network, c: Constants, teacher: Integers, begin: int, end: int, spiking: Integers) -> int:
    """Advance the class cells: moved by the teacher in training, when their voltage stands still, by E otherwise."""
    count = 0
    if c.learn_out:
        _decay(net.x_class, c.decay_trace)
        for k in range(begin, end):
            spiking[count] = teacher[k]
            count += 1
    else:
        for o in range(len(net.v_class)):
            before = net.v_class[o]
            current = c.rest_class - before
            current = current + net.g_class[o] * (c.reversal_excitation - before)
            net.v_class[o] = before + current * c.rate_class
            if net.v_class[o] > c.threshold_class:
                net.v_class[o] = c.reset_class
                spiking[count] = o
                count += 1
    _decay(net.g_class, c.decay_excitation)
    return count


@_part
def _step_inputs(net: Network, c: Constants, cells: Integers, count: int, kept: Floats) -> None:
    """Let the traces of the inputs decay, but not in the step after a spike, when the authors' cells rest."""
    if c.learn_in:
        for k in range(count):
            kept[k] = net.x_input[cells[k]]
        _decay(net.x_input, c.decay_trace)
        for k in range(count):
            net.x_input[cells[k]] = kept[k]


@_part
def _flush_all(net: Network, c: Constants) -> None:
    _flush(net.g_input, _TINY)
    _flush(net.g_inhibition, _TINY)
    _flush(net.g_partner, _TINY)
    _flush(net.g_class, _TINY)
    if c.learn_in:  # others do not decay
        _flush(net.x_input, _NO_TRACE)
        _flush(net.x_hidden_post, _NO_TRACE)
    if c.learn_out:
        _flush(net.x_hidden_pre, _NO_TRACE)
        _flush(net.x_class, _NO_TRACE)


@_part
def _mark(spikes: Booleans, cells: Integers, count: int) -> None:
    """Set the spikes of these cells, and of no others."""
    spikes[:] = False
    for k in range(count):
        spikes[cells[k]] = True


@_compiled
def advance(
    net: Network,
    c: Constants,
    steps: int,
    sources: Integers,
    begins: Integers,
    teacher: Integers,
    teacher_begins: Integers,
    hidden_counts: Counts,
    class_counts: Counts,
    record: Record,
) -> None:
    """Run a number of steps, changing the network in place.

    Args:
        net: the network.
        c: the constants.
        steps: how many.
        sources: inputs that spike, step after step in ascending order.
        begins: where each step's begin in them; one entry more than steps.
        teacher: class cells that the teacher makes spike, likewise; without effect unless class weights are learned.
        teacher_begins: where each step's begin.
        hidden_counts: E spikes of these steps are added to it.
        class_counts: spikes of the class cells are added to it.
        record: rasters to fill.
    """
    n_in, n_hidden = net.weights_in.shape
    n_classes = net.weights_out.shape[1]
    # Which cells of each population spiked in the last step, and how many they are.
    inputs, kept = np.empty(n_in, np.int64), np.empty(n_in, np.float64)
    hidden, partners = np.empty(n_hidden, np.int64), np.empty(n_hidden, np.int64)
    classes = np.empty(n_classes, np.int64)
    n_inputs, n_hiddens = _listed(net.spikes_input, inputs), _listed(net.spikes_hidden, hidden)
    n_partners, n_taught = _listed(net.spikes_inhibitory, partners), _listed(net.spikes_class, classes)

    traced = np.empty(n_hidden, np.int64)
    n_traced = _traced(net.x_hidden_post, traced)

    for t in range(steps):
        # 1. Spikes of the step before arrive, and presynaptic plasticity.
        _deliver_inputs(net, c, inputs, n_inputs, traced, n_traced)
        _deliver_hidden(net, c, hidden, n_hiddens)
        _deliver_inhibition(net, c, partners, n_partners)
        # 2. Postsynaptic plasticity.
        n_traced = _learn_from_hidden(net, c, hidden, n_hiddens, traced, n_traced)
        _learn_from_classes(net, c, classes, n_taught)
        # 3. Every cell advances.
        n_hiddens = _step_hidden(net, c, hidden)
        n_partners = _step_inhibitory(net, c, partners)
        n_taught = _step_classes(net, c, teacher, teacher_begins[t], teacher_begins[t + 1], classes)
        _step_inputs(net, c, inputs, n_inputs, kept)
        n_inputs = begins[t + 1] - begins[t]
        for k in range(n_inputs):
            inputs[k] = sources[begins[t] + k]

        for k in range(n_hiddens):
            hidden_counts[hidden[k]] += 1
        for k in range(n_taught):
            class_counts[classes[k]] += 1
        if record.hidden.shape[0] > 0:
            _mark(record.hidden[t], hidden, n_hiddens)
            _mark(record.inhibitory[t], partners, n_partners)
            _mark(record.classes[t], classes, n_taught)
        if t % _FLUSH_EVERY == _FLUSH_EVERY - 1:
            _flush_all(net, c)
            n_traced = _traced(net.x_hidden_post, traced)

    _mark(net.spikes_input, inputs, n_inputs)
    _mark(net.spikes_hidden, hidden, n_hiddens)
    _mark(net.spikes_inhibitory, partners, n_partners)
    _mark(net.spikes_class, classes, n_taught)


@_compiled
def reset(net: Network, rest_cells: Network) -> None:
    """Put the cells where the rested network's cells are, and leave what was learned."""
    net.v_hidden[:] = rest_cells.v_hidden
    net.v_inhibitory[:] = rest_cells.v_inhibitory
    net.v_class[:] = rest_cells.v_class
    net.timer_hidden[:] = rest_cells.timer_hidden
    net.timer_inhibitory[:] = rest_cells.timer_inhibitory
    net.g_input[:] = 0.0
    net.g_inhibition[:] = 0.0
    net.g_partner[:] = 0.0
    net.g_class[:] = 0.0
    net.spikes_input[:] = False
    net.spikes_hidden[:] = False
    net.spikes_inhibitory[:] = False
    net.spikes_class[:] = False


@_compiled
def present(
    net: Network,
    c: Constants,
    rest_cells: Network,
    greys: Floats,
    labels: Integers,
    keys: Keys,
    hidden_counts: Counts,
    class_counts: Counts,
    re_presentations: Integers,
    silent: Booleans,
) -> None:
    """Present samples one after the other, each again at a higher intensity while it brings too few hidden spikes.

    Args:
        net: the network.
        c: the constants.
        rest_cells: the rested network from which every sample of an evaluation starts.
        greys: images [samples, N_in].
        labels: their classes.
        keys: of their random numbers.
        hidden_counts: E spikes of the last presentation of each, to fill.
        class_counts: spikes of the class cells, to fill.
        re_presentations: to fill.
        silent: to fill.
    """
    n_in = greys.shape[1]
    learning = c.learn_in or c.learn_out
    no_sources = np.zeros(0, np.int64)
    no_begins = np.zeros(max(c.stimulus_steps, c.rest_steps) + 1, np.int64)
    no_raster = np.zeros((0, 0), np.bool_)
    no_record = Record(no_raster, no_raster, no_raster)
    ignored_hidden = np.zeros(net.theta.shape[0], np.int32)
    ignored_classes = np.zeros(net.v_class.shape[0], np.int32)
    probabilities = np.zeros(n_in + 1)
    for s in range(len(greys)):
        if not learning:
            reset(net, rest_cells)
        intensity = c.intensity
        presentation = 0
        while True:
            if learning and c.target_in > 0.0:
                scale(net.weights_in, c.target_in)
            if c.learn_out and c.target_out > 0.0:
                scale(net.weights_out, c.target_out)
            for i in range(n_in):
                probabilities[i] = greys[s, i] * (c.spike_probability * intensity)
            sources, begins = poisson_events(probabilities[:n_in], c.stimulus_steps, keys[s], presentation)
            teacher, teacher_begins = no_sources, no_begins
            if c.learn_out:
                # The teacher is the channel after the inputs.
                probabilities[:n_in] = 0.0
                probabilities[n_in] = c.teacher_probability
                teacher, teacher_begins = poisson_events(probabilities, c.stimulus_steps, keys[s], presentation)
                teacher[:] = labels[s]
                probabilities[n_in] = 0.0
            hidden_counts[s] = 0
            class_counts[s] = 0
            advance(
                net,
                c,
                c.stimulus_steps,
                sources,
                begins,
                teacher,
                teacher_begins,
                hidden_counts[s],
                class_counts[s],
                no_record,
            )
            silent[s] = hidden_counts[s].sum() < c.min_spikes
            again = silent[s] and intensity < c.intensity_max
            if again or learning:
                advance(
                    net,
                    c,
                    c.rest_steps,
                    no_sources,
                    no_begins,
                    no_sources,
                    no_begins,
                    ignored_hidden,
                    ignored_classes,
                    no_record,
                )
            if not again:
                break
            intensity += 1
            presentation += 1
        re_presentations[s] = presentation
