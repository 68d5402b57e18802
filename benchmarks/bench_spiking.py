"""Training the spiking classifier against BindsNET and Brian2, and its batch engine against its event engine.

All sides learn from the same MNIST images, at 784 inputs and the same number of hidden cells, for the same simulated
time in steps of the same length, on one thread, in turns. The figure is the processor time of a step, which other
processes disturb less than the clock on the wall.

Ours is `EventEngine.train` without the rest after a sample: coding, scaling of the weights, teacher and class cells
included. The peers are handed ready-made rasters of the same rates. BindsNET's DiehlAndCook2015 is a network of the
same shape with current-based synapses, at its own step of 1 ms; it normalises weights after each sample. Brian2 solves
the equations of our hidden layer, at 0.5 ms, without class cells and scaling, traces kept in the cells, compiled by
cython. What it does before the first step of every ``run``, about half a second, is not counted.

The next rows compare our engines, whole presentations of 500 ms, by the clock on the wall: the batch engine may use two
cores, the event engine learns on one. The last compare the event engine, on one core and on two, with itself where the
network runs as a whole instead of as front and crowd; their limit reads and writes all weights of the hidden layer once
for each image.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import numpy.typing as npt
import torch

from aleator.data import load
from aleator.spiking import (
    Engine,
    EventEngine,
    FrozenEngine,
    PoissonEncoder,
    PrivateEngine,
    SpikingParameters,
    SpikingState,
    event_engine,
    preset,
    sample_keys,
)
from benchmarks.pairs import Pairs, interleave
from benchmarks.peers import Peer, rows_of_a_peer

IMAGES, TURNS = 64, 7
EPOCH_MINUTES = 5.0
SHOWN = preset("hao2019-mnist-400").replace(rest=0.0, min_spikes=0, intensity_max=2)
BATCH = 32


def benchmark() -> list[dict[str, Any]]:
    """Return time of a peer's step / time of ours, and of the event engine's samples / the batch engines'."""
    rows: list[dict[str, Any]] = []
    for peer, dt, hidden, target in (
        *(("bindsnet", 1.0, hidden, "≥ 40") for hidden in (100, 400, 1600)),
        ("brian2", 0.5, 400, "≥ 15"),
    ):
        with rows_of_a_peer():
            rows.append(_row(peer, dt, hidden, target))
    engines: list[tuple[str, type[FrozenEngine], int]] = [
        ("frozen", FrozenEngine, 400),
        ("frozen", FrozenEngine, 1600),
        ("private", PrivateEngine, 400),
    ]
    for name, kind, hidden in engines:
        parameters = preset(f"hao2019-mnist-{hidden}")
        sides = [_training(each, parameters, hidden) for each in (kind(parameters, BATCH), EventEngine(parameters))]
        what = f"training on {IMAGES} MNIST images, 784-{hidden}-10, {name} batches of {BATCH}, 2 threads"
        rows.append(interleave(*sides, pairs=3, threads=2).row(what, "event engine, online, 1 thread", "–"))
    for hidden in (1600, 6400):
        parameters = preset(f"hao2019-mnist-{hidden}")
        whole = _training(EventEngine(parameters), parameters, hidden, whole=True)
        for threads in (1, 2):
            train = _training(EventEngine(parameters, threads), parameters, hidden)
            what = f"training on {IMAGES} MNIST images, 784-{hidden}-10, {threads} thread{'s' * (threads > 1)}"
            pairs = interleave(train, whole, limit=_one_pass(hidden), pairs=TURNS, threads=threads)
            limit = ("one pass over the weights an image", 1.0)
            rows.append(pairs.row(what, "as a whole, 1 thread", "–", limit=limit))
    minutes = [seconds * 60_000 / IMAGES / 60 for seconds in pairs.ours]
    epoch = Pairs(minutes, [EPOCH_MINUTES] * TURNS, clock=pairs.clock)
    what = f"an epoch of MNIST as {IMAGES} images take it, 784-6400-10, 2 threads"
    return [*rows, epoch.row(what, "the goal", "≤ 1", figure="cost", unit="min")]


def _one_pass(hidden: int) -> Callable[[], None]:
    """Return a function that reads and writes the weights of the hidden layer once for each image."""
    weights = np.ones((784, hidden))

    def scale() -> None:
        for _ in range(IMAGES):
            np.multiply(weights, 1.0, out=weights)

    return scale


def _images() -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    train = load("mnist").train
    return train.inputs[:IMAGES].flatten(1).double().numpy(), train.targets[:IMAGES].numpy()


def _training(engine: Engine, parameters: SpikingParameters, hidden: int, whole: bool = False) -> Any:
    """Return a function that trains on all images once more, the network as a whole if so told."""
    greys, labels = _images()
    state = SpikingState.initial(greys.shape[1], hidden, 10, parameters, torch.Generator().manual_seed(0))
    keys = sample_keys(0, "benchmark", 0, IMAGES)

    def train() -> None:
        with patch.object(event_engine, "CROWD", hidden + 1 if whole else event_engine.CROWD):
            engine.train(state, greys, labels, keys, "both")

    return train


def _row(name: str, dt: float, hidden: int, target: str) -> dict[str, Any]:
    parameters = SHOWN.replace(dt=dt)
    train = _training(EventEngine(parameters), parameters, hidden)
    greys, _ = _images()
    keys = sample_keys(0, "peer", 0, IMAGES)
    rates = greys * parameters.rate_per_grey * parameters.intensity
    encoder, steps = PoissonEncoder(dt), parameters.stimulus_steps
    spikes = np.stack([encoder(*sample).numpy() for sample in zip(rates, [steps] * IMAGES, keys, strict=True)])
    train()
    ours, theirs = [], []
    with Peer(name, spikes, hidden, chunk=2) as peer:
        for _ in range(TURNS):
            begin = time.process_time()
            train()
            ours.append((time.process_time() - begin) / (IMAGES * steps) * 1e6)
            theirs.append(peer.seconds() / (2 * steps) * 1e6)
    what = f"a step of {dt:g} ms, 784-{hidden}, batch 1, learning"
    return Pairs(ours, theirs).row(what, f"{name} {peer.version}", target, unit="µs")
