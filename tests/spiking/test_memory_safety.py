"""Compiled loops are reached by nothing that does not fit, and look nowhere outside their arrays."""

import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from aleator.spiking import DenseEngine, EventEngine, FrozenEngine, PrivateEngine, SpikingState, preset, sample_keys

PARAMETERS = preset("hao2019-mnist-400").replace(stimulus=20.0, rest=5.0, intensity_max=2)
ENGINES = [EventEngine, DenseEngine, FrozenEngine, PrivateEngine]
N_IN, N_HIDDEN, N_CLASSES = 12, 5, 3


def network():
    return SpikingState.initial(N_IN, N_HIDDEN, N_CLASSES, PARAMETERS, torch.Generator().manual_seed(0))


def samples(**changes):
    fitting = {
        "greys": np.full((2, N_IN), 255.0),
        "labels": np.array([0, 2]),
        "keys": sample_keys(0, "train", 0, 2),
        "phase": "both",
    }
    return list((fitting | changes).values())


@pytest.mark.plain
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"greys": np.zeros((2, N_IN + 1))}, r"greys must be float64 of the shape \(2, 12\), got float64 .*\(2, 13\)"),
        ({"greys": np.zeros((2, N_IN), np.float32)}, r"greys must be float64 .*, got float32"),
        ({"greys": np.full((2, N_IN), 256.0)}, r"greys must be in \[0, 255\], got values from 256.0 to 256.0"),
        ({"greys": np.full((2, N_IN), np.nan)}, r"greys must be in \[0, 255\], got values from nan to nan"),
        ({"labels": np.array([0, 50_000])}, r"labels must be in \[0, 3\), got 50000"),
        ({"labels": np.array([0, -1])}, r"labels must be in \[0, 3\), got -1"),
        ({"labels": np.array([0])}, r"labels must be int64 of the shape \(2,\), got int64 of the shape \(1,\)"),
        ({"labels": np.zeros(2)}, r"labels must be int64 of the shape \(2,\), got float64"),
        ({"keys": np.zeros(1, np.uint64)}, r"keys must be uint64 of the shape \(2,\), got uint64 of the shape \(1,\)"),
        ({"keys": np.zeros(2, np.int64)}, r"keys must be uint64 of the shape \(2,\), got int64"),
        ({"phase": "all"}, "phase must be one of both, hidden, classes, got 'all'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_samples_that_do_not_fit_the_network_are_refused_by_every_engine(engine, changes, message):
    with pytest.raises(ValueError, match=message):
        engine(PARAMETERS).train(network(), *samples(**changes))
    if not {"labels", "phase"} & set(changes):
        greys, _, keys, _ = samples(**changes)
        with pytest.raises(ValueError, match=message):
            engine(PARAMETERS).evaluate(network(), greys, keys)


@pytest.mark.plain
@pytest.mark.parametrize("name", list(network().state_dict()))
def test_a_state_whose_fields_do_not_fit_together_is_refused(name):
    state = network()
    setattr(state, name, getattr(state, name)[:-1])
    greys, labels, keys, phase = samples()
    calls = (
        lambda: EventEngine(PARAMETERS).train(state, greys, labels, keys, phase),
        lambda: EventEngine(PARAMETERS).evaluate(state, greys, keys),
        lambda: EventEngine(PARAMETERS).simulate(state, torch.zeros(2, N_IN, dtype=torch.bool)),
    )
    for call in calls:
        with pytest.raises(ValueError, match=r" must be .* of the shape|must have the shape \(2, 11\)"):
            call()


@pytest.mark.plain
@pytest.mark.parametrize("engine", [EventEngine, DenseEngine])
def test_a_raster_of_counts_is_refused(engine):
    counts = torch.full((4, N_IN), 2)
    with pytest.raises(ValueError, match=r"inputs must be torch\.bool, got torch\.int64"):
        engine(PARAMETERS).simulate(network(), counts)


PROGRAM = """
import numpy as np, torch
from aleator.spiking import DenseEngine, EventEngine, FrozenEngine, PrivateEngine, SpikingState, preset, sample_keys

p = preset("hao2019-mnist-400").replace(stimulus=100.0, rest=20.0, intensity_max=2)
greys = np.random.default_rng(0).integers(0, 256, (4, 150)).astype(float)
greys[1] = 0.0
labels, keys = np.array([0, 1, 2, 2]), sample_keys(0, "train", 0, 4)
spikes = 0
for engine in (EventEngine, DenseEngine, FrozenEngine, PrivateEngine):
    for phase in ("both", "hidden", "classes"):
        state = SpikingState.initial(150, 6, 3, p, torch.Generator().manual_seed(0))
        state.theta.fill_(12.0)
        spikes += engine(p).train(state, greys, labels, keys, phase).hidden.sum()
    spikes += engine(p).evaluate(state, greys, keys).hidden.sum()
rasters = EventEngine(p).simulate(state, torch.ones(300, 150, dtype=torch.bool), torch.ones(300, 3, dtype=torch.bool))
print(spikes > 100 and rasters.hidden.any().item())
from aleator.spiking import kernels
try:
    kernels._raise_column(np.zeros((2, 2)), 5, np.zeros(2), 0.1, 1.0)
except IndexError:
    print("checked")
"""


@pytest.mark.slow  # the loops are compiled anew, with checks
def test_with_bounds_checks_no_engine_looks_outside_its_arrays(tmp_path):
    environment = {**os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_OPT": "0"}
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, env=environment, check=False)
    assert done.stdout == "True\nchecked\n", done.stderr[-2000:]
