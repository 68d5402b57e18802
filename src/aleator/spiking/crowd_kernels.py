"""Compiled loops of `aleator.spiking.crowd`: the choice of the front, and the cells of the crowd, each alone.

They call nothing of another file, since numba's cache of a kernel does not see changes of what it calls there.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np

from aleator.spiking.kernels import Booleans, Constants, Floats, Integers, Network

_F = TypeVar("_F", bound=Callable[..., object])

_TINY = 1e-150  # as in the kernels of a step
_FLUSH_EVERY = 256
TILE = 256  # columns: those of the rows of an image stay in the second cache, and their cells in the first


def _compiled(function: _F) -> _F:
    return cast(_F, numba.njit(cache=True, nogil=True)(inspect.unwrap(function)))


def _part(function: _F) -> _F:
    compiled: Any = numba.njit
    return cast(_F, compiled(forceinline=True, _nrt=False)(inspect.unwrap(function)))


@_compiled
def scale_columns(weights: Floats, columns: Integers, target: float, w_max: float, over: Booleans) -> None:
    """Do to some columns what `aleator.spiking.kernels.scale` does, and note which have a weight above ``w_max``.

    Args:
        weights: [inputs, cells].
        columns: which.
        target: of the scaling; 0 for none.
        w_max: see above.
        over: of every cell, to set for these.
    """
    count = len(columns)
    sums, largest = np.zeros(count), np.zeros(count)
    for i in range(weights.shape[0]):
        row = weights[i]
        for k in range(count):
            w = row[columns[k]]
            sums[k] += w
            largest[k] = max(largest[k], w)
    tolerance = target * weights.shape[0] * 2.0**-52
    scaled = np.empty(count, np.int64)
    n = 0
    for k in range(count):
        if target > 0.0 and sums[k] != 0.0 and not abs(sums[k] - target) <= tolerance:
            factor = target / sums[k]
            largest[k] *= factor
            scaled[n], sums[n] = columns[k], factor  # n is at most k
            n += 1
        over[columns[k]] = largest[k] > w_max
    for i in range(weights.shape[0]):
        row = weights[i]
        for k in range(n):
            w = row[scaled[k]] * sums[k]
            row[scaled[k]] = w if w > _TINY else 0.0


@_compiled
def add_drives(weights: Floats, rows: Integers, spikes: Floats, begin: int, end: int, drives: Floats) -> None:
    """Set what cells begin … end of the network would receive from a number of spikes of some inputs."""
    own = drives[begin:end]
    own[:] = 0.0
    for k in range(len(rows)):
        row, n = weights[rows[k], begin:end], spikes[k]
        for j in range(len(own)):
            own[j] += n * row[j]


@_compiled
def choose(net: Network, c: Constants, over: Booleans, drives: Floats, wanted: int, front: Booleans) -> float:
    """Set who is in the front, and return the conductance of inhibition that the others have in common.

    Args:
        net: the network.
        c: its constants.
        over: cells with a weight above ``w_max``.
        drives: what every cell will receive.
        wanted: how many are to be in the front besides those that must be.
        front: to set.
    """
    n = len(front)
    common = np.nan  # of the first calm cell; a cell whose own differs is in the front
    gap = total = 0.0
    for j in range(n):
        v = net.v_inhibitory[j]
        asleep = v + (c.rest_inhibitory - v) * c.rate_inhibitory == v and v <= c.threshold_inhibitory
        asleep = asleep and net.timer_inhibitory[j] > c.refractory_inhibitory and net.g_partner[j] == 0.0
        calm = asleep and net.timer_hidden[j] > c.refractory_hidden
        calm = calm and not net.spikes_hidden[j] and not net.spikes_inhibitory[j]
        calm = calm and not (c.learn_in and (net.x_hidden_post[j] != 0.0 or over[j]))
        calm = calm and not (c.learn_out and net.x_hidden_pre[j] != 0.0)
        if calm and common != common:
            common = net.g_inhibition[j]
        calm = calm and net.g_inhibition[j] == common
        front[j] = not calm
        if calm:
            gap += net.theta[j] + c.threshold_hidden - net.v_hidden[j]
            total += drives[j]
    if common != common:
        return common
    # How far above its threshold a cell's drive might lift it, if the mean drive just lifts to the mean threshold;
    # twice the distance, because of the leak. A bad guess costs time and nothing else.
    lift = 2.0 * gap / total if total > 0.0 else 0.0
    scores = np.full(n, -np.inf)
    for j in range(n):
        if not front[j]:
            scores[j] = lift * drives[j] - (net.theta[j] + c.threshold_hidden - net.v_hidden[j])
    least = np.partition(scores, n - wanted)[n - wanted]
    for j in range(n):
        front[j] = front[j] or scores[j] > least
    return common


@_compiled
def taken(net: Network, rows: Integers, cells: Integers) -> Network:
    """Return a copy of the network with some of the inputs and some of the hidden cells only."""
    weights = np.empty((len(rows), len(cells)))
    for i in range(len(rows)):
        row, own = net.weights_in[rows[i]], weights[i]
        for k in range(len(cells)):
            own[k] = row[cells[k]]
    return Network(
        weights,
        net.weights_out[cells],
        net.theta[cells],
        net.v_hidden[cells],
        net.v_inhibitory[cells],
        net.v_class.copy(),
        net.timer_hidden[cells],
        net.timer_inhibitory[cells],
        net.g_input[cells],
        net.g_inhibition[cells],
        net.g_partner[cells],
        net.g_class.copy(),
        net.x_input[rows],
        net.x_hidden_post[cells],
        net.x_hidden_pre[cells],
        net.x_class.copy(),
        net.spikes_input[rows],
        net.spikes_hidden[cells],
        net.spikes_inhibitory[cells],
        net.spikes_class.copy(),
    )


@_compiled
def inhibition_levels(c: Constants, common: float, pending: int, shown: Booleans, rest: Booleans) -> Floats:
    """Return the conductance of inhibition of the crowd in every step, and after the last.

    Args:
        c: the constants.
        common: conductance before the first step.
        pending: I spikes of the step before it.
        shown: I spikes of the front, [steps, cells], while the image is shown.
        rest: in the rest after.
    """
    levels = np.empty(len(shown) + len(rest) + 1)
    place = 0
    for part in (shown, rest):
        for t in range(len(part)):
            if pending > 0:
                common += c.inhibition * pending
            levels[place] = common
            place += 1
            common *= c.decay_inhibition
            if t % _FLUSH_EVERY == _FLUSH_EVERY - 1 and not common > _TINY:
                common = 0.0
            pending = 0
            for k in range(part.shape[1]):
                pending += part[t, k]
    levels[place] = common
    return levels


@_part
def _arrive(g: Floats, weights: Floats, sources: Integers, first: int, last: int, begin: int) -> None:
    """Add the rows of the inputs that spiked, one after the other, up to four in a pass."""
    n, k = len(g), first
    while k + 4 <= last:
        a, b = weights[sources[k], begin : begin + n], weights[sources[k + 1], begin : begin + n]
        c, d = weights[sources[k + 2], begin : begin + n], weights[sources[k + 3], begin : begin + n]
        for j in range(n):
            g[j] = (((g[j] + a[j]) + b[j]) + c[j]) + d[j]
        k += 4
    if k + 2 <= last:
        a, b = weights[sources[k], begin : begin + n], weights[sources[k + 1], begin : begin + n]
        for j in range(n):
            g[j] = (g[j] + a[j]) + b[j]
        k += 2
    if k < last:
        a = weights[sources[k], begin : begin + n]
        for j in range(n):
            g[j] += a[j]


@_part
def _step(c: Constants, level: float, decay: float, v: Floats, g: Floats, theta: Floats) -> int:
    """Advance cells as `aleator.spiking.kernels` does, and return how many crossed their thresholds."""
    crossed = 0
    for j in range(len(v)):
        before = v[j]
        current = c.rest_hidden - before
        current = current + g[j] * (c.reversal_excitation - before)
        current = current + level * (c.reversal_inhibition - before)
        now = before + current * c.rate_hidden
        now = now if now > c.floor_hidden else c.floor_hidden
        height = theta[j] * decay
        v[j], theta[j] = now, height
        g[j] *= c.decay_excitation
        crossed += now > height + c.threshold_hidden
    return crossed


@_compiled
def follow(
    net: Network,
    c: Constants,
    front: Booleans,
    sources: Integers,
    begins: Integers,
    shown_steps: int,
    levels: Floats,
    begin: int,
    end: int,
    v: Floats,
    g: Floats,
    theta: Floats,
    crossed: Integers,
) -> None:
    """Run cells begin … end through a presentation whose inhibition is known, without changing the network.

    Args:
        net: the network.
        c: the constants.
        front: cells to be left out.
        sources: inputs whose spikes arrive, step after step.
        begins: where each step's begin; one entry more than steps.
        shown_steps: how many of the steps are not rest.
        levels: of `inhibition_levels`.
        begin: first cell.
        end: cell after the last.
        v: voltages afterwards, to set.
        g: conductances input → E afterwards, to set.
        theta: thresholds afterwards, to set.
        crossed: step in which a cell crossed its threshold, to set; the number of steps if it did not, or if a
            neighbour did before.
    """
    steps = len(begins) - 1
    decay = c.theta_decay if c.learn_in else 1.0
    for tile in range(begin, end, TILE):
        stop = min(tile + TILE, end)
        own_v, own_g, own_theta = v[tile:stop], g[tile:stop], theta[tile:stop]
        for j in range(tile, stop):
            v[j], g[j], crossed[j] = net.v_hidden[j], net.g_input[j], steps
            theta[j] = np.inf if front[j] else net.theta[j]
        for t in range(steps):
            _arrive(own_g, net.weights_in, sources, begins[t], begins[t + 1], tile)
            if _step(c, levels[t], decay, own_v, own_g, own_theta) > 0:
                for j in range(tile, stop):
                    if v[j] > theta[j] + c.threshold_hidden:
                        crossed[j] = t
                break
            since = t if t < shown_steps else t - shown_steps
            if since % _FLUSH_EVERY == _FLUSH_EVERY - 1:
                for j in range(len(own_g)):
                    own_g[j] = own_g[j] if own_g[j] > _TINY else 0.0


@_compiled
def _waited(timer: float, dt: float, steps: int) -> float:
    """Return what adding dt that many times makes of a timer."""
    if dt * 1024 == np.floor(dt * 1024) and timer * 1024 == np.floor(timer * 1024) and timer < 2.0**32:  # exact
        return timer + steps * dt
    for _ in range(steps):
        timer += dt
    return timer


@_compiled
def settle(
    net: Network,
    c: Constants,
    own: Network,
    rows: Integers,
    cells: Integers,
    front: Booleans,
    over: Booleans,
    fired: Booleans,
    taught: Booleans,
    steps: int,
    level: float,
    v: Floats,
    g: Floats,
    theta: Floats,
) -> Integers:
    """Put front and crowd back into the network after a presentation, and return the cells whose weights changed.

    Args:
        net: the network, to change.
        c: its constants.
        own: the front's, see `taken`.
        rows: inputs of the front.
        cells: cells of the front.
        front: whether a cell is in it.
        over: cells with a weight above ``w_max``.
        fired: which cells of the front spiked.
        taught: class cells whose spikes were learned from.
        steps: steps of the presentation.
        level: conductance of inhibition of the crowd.
        v: of `follow`.
        g: of `follow`.
        theta: of `follow`.
    """
    changed = np.empty(len(cells), np.int64)
    count = 0
    if c.learn_in:
        for k in range(len(cells)):
            j = cells[k]
            # Not whether there is a trace now: it may be gone by the end of the presentation.
            if net.x_hidden_post[j] != 0.0 or net.spikes_hidden[j] or fired[k] or over[j]:
                changed[count] = j
                count += 1
                for i in range(len(rows)):
                    net.weights_in[rows[i], j] = own.weights_in[i, k]
    if c.learn_out:
        # Nothing else would strengthen weights of the crowd, but what scaling has lifted above w_max is cut.
        for j in range(len(front)):
            for o in range(len(taught)):
                if taught[o] and net.weights_out[j, o] > c.w_max_out:
                    net.weights_out[j, o] = c.w_max_out
    for j in range(len(front)):
        if not front[j]:
            net.v_hidden[j], net.g_input[j], net.g_inhibition[j] = v[j], g[j], level
            net.timer_hidden[j] = _waited(net.timer_hidden[j], c.dt, steps)
            net.timer_inhibitory[j] = _waited(net.timer_inhibitory[j], c.dt, steps)
            if c.learn_in:
                net.theta[j] = theta[j]
    for k in range(len(cells)):
        j = cells[k]
        net.weights_out[j] = own.weights_out[k]
        net.theta[j], net.v_hidden[j], net.v_inhibitory[j] = own.theta[k], own.v_hidden[k], own.v_inhibitory[k]
        net.timer_hidden[j], net.timer_inhibitory[j] = own.timer_hidden[k], own.timer_inhibitory[k]
        net.g_input[j], net.g_inhibition[j], net.g_partner[j] = own.g_input[k], own.g_inhibition[k], own.g_partner[k]
        net.x_hidden_post[j], net.x_hidden_pre[j] = own.x_hidden_post[k], own.x_hidden_pre[k]
        net.spikes_hidden[j], net.spikes_inhibitory[j] = own.spikes_hidden[k], own.spikes_inhibitory[k]
    net.spikes_input[:] = False
    for i in range(len(rows)):
        net.x_input[rows[i]] = own.x_input[i]
        net.spikes_input[rows[i]] = own.spikes_input[i]
    net.v_class[:], net.g_class[:], net.x_class[:] = own.v_class, own.g_class, own.x_class
    net.spikes_class[:] = own.spikes_class
    return changed[:count]
