"""The spikes of `aleator.spiking.PoissonEncoder` for many samples at once, on any device, as a table of times.

A batch has few spikes and many places for them: 4 in a step of 784 pixels. So nothing here makes a raster. The table
holds for every sample and channel the steps of its spikes, in ascending order and filled up with the number of steps,
and everything that engines need is read off it: the drive of the next layer, and sums over pairs of spikes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional as F

_CHUNK = 2**24  # numbers of a drive that are in memory at a time, 64 MB

# The constants of SplitMix64, as the signed integers that torch has.
_GOLDEN, _MIX1, _MIX2 = (z - 2**64 for z in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def _shifted(z: Int64[Tensor, "*shape"], bits: int) -> Int64[Tensor, "*shape"]:
    return (z >> bits) & ((1 << (64 - bits)) - 1)  # torch's shift keeps the sign


def _mixed(z: Int64[Tensor, "*shape"]) -> Int64[Tensor, "*shape"]:
    z = (z ^ _shifted(z, 30)) * _MIX1
    z = (z ^ _shifted(z, 27)) * _MIX2
    return z ^ _shifted(z, 31)


def _subkeys(keys: Int64[Tensor, "*shape"], places: Int64[Tensor, "*places"]) -> Int64[Tensor, "*shape"]:
    return _mixed(keys + (places + 1) * _GOLDEN)


@torch.no_grad()
def poisson_table(
    probabilities: Float[Tensor, "batch channels"],
    steps: int,
    keys: Int64[Tensor, " batch"],
    presentation: int,
) -> Int64[Tensor, "batch channels spikes"]:
    """Return the steps in which channels spike; places without a spike hold ``steps``.

    Args:
        probabilities: of a spike in a step, float64 in [0, 1].
        steps: number of steps.
        keys: of the samples, see `aleator.spiking.sample_keys`; the same 64 bits, as signed integers.
        presentation: how often they were presented before.
    """
    channels = torch.arange(probabilities.shape[1], device=keys.device)
    presented = _subkeys(keys, torch.full_like(keys, presentation))
    own = _subkeys(presented[:, None].expand(-1, len(channels)), channels)
    slope = torch.log1p(-probabilities)
    now = torch.full_like(slope, -2.0)
    columns = []
    for n in range(steps // 2 + 2):
        u = (_shifted(_subkeys(own, torch.full_like(channels, n)), 11).double() + 0.5) * 2.0**-53
        gap = torch.floor(torch.log(u) / slope)
        now = now + 2 + gap if n else gap
        columns.append(now.clamp(max=steps))
        if not bool((now < steps).any()):  # one question to the device for the n-th spikes of the whole batch
            break
    return torch.stack(columns[:-1] or columns, 2).long()


def raster_of(table: Int64[Tensor, "batch channels spikes"], steps: int) -> Bool[Tensor, "time batch channels"]:
    """Return the spikes of a table as a raster."""
    raster = torch.zeros(*table.shape[:2], steps + 1, dtype=torch.bool, device=table.device)
    return raster.scatter_(2, table, True)[..., :steps].permute(2, 0, 1)


def traces_at(
    table: Int64[Tensor, "batch channels spikes"],
    times: Int64[Tensor, " rows"],
    samples: Int64[Tensor, " rows"],
    factor: float,
    *,
    steps: int,
    own_step_is_past: bool,
    stretched: bool,
) -> tuple[Float[Tensor, "rows channels"], Float[Tensor, "rows channels"]]:
    """Return the traces of channels at some times, of spikes before and of spikes to come, for a gain of 1 per spike.

        past(k) = Σ_{u ≤ k} f^(k − u),        future(k) = Σ_{u > k} f^(u − k)

    Args:
        table: of the channels' spikes.
        times: k.
        samples: of which sample each row is.
        factor: f, decay of a step, positive.
        steps: number of steps.
        own_step_is_past: whether a spike in the step k belongs to the past, as above, or to the future.
        stretched: whether the past trace does not decay in the step after a spike, like the trace of the inputs.
    """
    batch, channels, most = table.shape
    # A grid of times for each sample, so that all its channels are searched for them at once.
    samples_in_order, order = torch.sort(samples, stable=True)
    counts = torch.bincount(samples, minlength=batch)
    place = torch.empty_like(samples)
    place[order] = torch.arange(len(samples), device=table.device) - (counts.cumsum(0) - counts)[samples_in_order]
    grid = torch.zeros(batch, max(1, int(counts.max())), dtype=torch.long, device=table.device)
    grid[samples, place] = times
    grid = grid[:, None].expand(-1, channels, -1).contiguous()
    table = table.contiguous()
    before = torch.searchsorted(table, grid, right=own_step_is_past)

    spikes = table < steps
    powers = factor ** torch.arange(-steps - 1, steps + 2, dtype=torch.float64, device=table.device)

    def power(exponent: Tensor) -> Tensor:
        return powers[exponent + steps + 1]

    # From its arrival on, the trace of the n-th spike misses a decay for itself and for every later spike before k.
    skipped = torch.arange(most, device=table.device) if stretched else 0
    misses = torch.searchsorted(table, grid) if stretched else 0
    grown = torch.where(spikes, power(skipped - table), 0.0).cumsum(2)
    shrunk = torch.where(spikes, power(table), 0.0).flip(2).cumsum(2).flip(2)
    empty = torch.zeros_like(grown[..., :1])
    past = torch.cat([empty, grown], 2).gather(2, before) * power(grid - misses)
    future = torch.cat([shrunk, empty], 2).gather(2, before) * power(-grid)
    return past[samples, :, place], future[samples, :, place]


class Events(NamedTuple):
    """The spikes of a table in the order of steps, then samples, then channels.

    Attributes:
        channels: which channel spikes.
        begins: where the events of each (step, sample) begin, one entry more than there are.
        steps: number of steps.
        batch: number of samples.
    """

    channels: Int64[Tensor, " events"]
    begins: Int64[Tensor, " places"]
    steps: int
    batch: int

    @classmethod
    def of(cls, table: Int64[Tensor, "batch channels spikes"], steps: int) -> Events:
        """Return the events of a table."""
        batch = len(table)
        samples, channels, _ = (found := (table < steps).nonzero()).unbind(1)
        places = table[found.unbind(1)] * batch + samples
        places, order = torch.sort(places, stable=True)
        begins = torch.zeros(steps * batch + 1, dtype=torch.long, device=table.device)
        torch.cumsum(torch.bincount(places, minlength=steps * batch), 0, out=begins[1:])
        return cls(channels[order], begins, steps, batch)

    @classmethod
    def of_raster(cls, raster: Bool[Tensor, "time batch channels"]) -> Events:
        """Return the events of a raster."""
        steps, batch, _ = raster.shape
        begins = torch.zeros(steps * batch + 1, dtype=torch.long, device=raster.device)
        torch.cumsum(raster.sum(2).flatten(), 0, out=begins[1:])
        return cls(raster.nonzero()[:, 2].contiguous(), begins, steps, batch)

    def drive(
        self, weights: Float[Tensor, "channels cells"], begin: int, end: int
    ) -> Float[Tensor, "chunk batch cells"]:
        """Return what the spikes of the steps begin … end − 1 add to the conductances of the next layer.

        This is the product of raster and weights. Of a raster with one place in 200 filled, only that is looked at.
        """
        begins = self.begins[begin * self.batch : end * self.batch + 1]
        first, last = begins[[0, -1]].tolist()
        rows = self.channels[first:last]
        sums = F.embedding_bag(rows, weights, begins - first, mode="sum", include_last_offset=True)
        return sums.view(end - begin, self.batch, -1)

    def drives(self, weights: Float[Tensor, "channels cells"]) -> Iterator[Float[Tensor, "batch cells"] | None]:
        """Yield what arrives in the steps 0 … steps: the spikes of the step before, so None at first."""
        yield None
        chunk = max(1, _CHUNK // (self.batch * weights.shape[1]))
        for begin in range(0, self.steps, chunk):
            yield from self.drive(weights, begin, min(begin + chunk, self.steps))

    def listed(self, fill: int) -> Int64[Tensor, "time batch most"]:
        """Return the channels that spike in each step, filled up with ``fill`` to the largest number of them."""
        counts = self.begins.diff()
        most = max(1, int(counts.max()))
        place = torch.repeat_interleave(torch.arange(len(counts), device=counts.device), counts)
        lists = torch.full((len(counts), most), fill, device=counts.device)
        lists[place, torch.arange(len(place), device=counts.device) - self.begins[place]] = self.channels
        return lists.view(self.steps, self.batch, most)
