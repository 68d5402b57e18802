"""Tables of spikes hold the encoder's spikes, and what is read off them is what a raster would give."""

import numpy as np
import pytest
import torch

from aleator.spiking import PoissonEncoder, sample_keys
from aleator.spiking.poisson_tables import Events, poisson_table, raster_of, traces_at

STEPS, BATCH, CHANNELS = 60, 5, 7
KEYS = sample_keys(3, "train", 0, BATCH)


def rates(seed=0):
    """From silent to a spike in every second step."""
    chosen = np.random.default_rng(seed).uniform(0, 400, (BATCH, CHANNELS))
    chosen[:, 0], chosen[0, 1] = 0, 2000
    return chosen


def table(steps=STEPS, presentation=0, seed=0):
    probabilities = torch.from_numpy(rates(seed) * 0.0005)
    return poisson_table(probabilities, steps, torch.from_numpy(KEYS.view(np.int64)), presentation)


@pytest.mark.parametrize(("steps", "presentation"), [(60, 0), (61, 2), (1, 0), (2, 1)])
def test_tables_hold_the_spikes_of_the_encoder(steps, presentation):
    raster = raster_of(table(steps, presentation), steps)
    for sample, key in enumerate(KEYS):
        assert torch.equal(raster[:, sample], PoissonEncoder()(rates()[sample], steps, key, presentation))
    assert raster[:, 0, 1].tolist() == [t % 2 == 0 for t in range(steps)]


def test_times_ascend_and_free_places_hold_the_number_of_steps():
    times = table()
    assert (times.diff(dim=2) >= 2)[times[..., 1:] < STEPS].all()  # never in two steps running
    assert (times[:, 0] == STEPS).all()
    assert times.max() == STEPS


@pytest.mark.parametrize("steps", [1, STEPS])
def test_the_drive_is_the_product_of_raster_and_weights(steps):
    weights = torch.rand(CHANNELS, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    times = table(steps)
    raster = raster_of(times, steps)
    product = raster.double() @ weights
    for events in (Events.of(times, steps), Events.of_raster(raster)):
        torch.testing.assert_close(events.drive(weights, 0, steps), product)
        arriving = list(events.drives(weights))
        assert arriving[0] is None
        torch.testing.assert_close(torch.stack(arriving[1:]), product)


def test_lists_name_the_channels_of_each_step():
    times = table()
    lists = Events.of(times, STEPS).listed(fill=CHANNELS)
    raster = torch.nn.functional.pad(raster_of(times, STEPS), (0, 1))
    assert torch.equal(torch.zeros_like(raster).scatter_(2, lists, True)[..., :-1], raster[..., :-1])
    assert (lists < CHANNELS).sum() == raster.sum()


@pytest.mark.parametrize(("stretched", "own_step_is_past"), [(False, False), (False, True), (True, True)])
def test_traces_are_those_that_a_loop_over_the_steps_leaves(stretched, own_step_is_past):
    times, factor = table(), 0.9
    raster = raster_of(times, STEPS).double()
    past, future = torch.zeros(2, STEPS, BATCH, CHANNELS, dtype=torch.float64)
    x = rested = torch.zeros(BATCH, CHANNELS, dtype=torch.float64)
    for t in range(STEPS):
        x = torch.where(rested > 0, x, x * factor) if stretched else x * factor
        rested = raster[t]
        past[t] = x if not own_step_is_past else x + raster[t]
        x = x + raster[t]
    x = torch.zeros_like(x)
    for t in reversed(range(STEPS)):
        x = x * factor
        future[t] = x if own_step_is_past else x + raster[t]
        x = x + raster[t]
    when, who = torch.tensor([[0, 3, 3, 59, 17], [1, 0, 4, 1, 1]])
    found = traces_at(times, when, who, factor, steps=STEPS, own_step_is_past=own_step_is_past, stretched=stretched)
    torch.testing.assert_close(found[0], past[when, who])
    torch.testing.assert_close(found[1], future[when, who])


def test_no_rows_are_no_traces():
    none = torch.zeros(0, dtype=torch.long)
    past, future = traces_at(table(), none, none, 0.9, steps=STEPS, own_step_is_past=True, stretched=True)
    assert past.shape == future.shape == (0, CHANNELS)
