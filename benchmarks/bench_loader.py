"""A pass over MNIST in memory: `aleator.data.InMemoryLoader` against ``torch.utils.data.DataLoader``.

Both go through the 60 000 training images in a fresh random order, in batches of 128, in one process and on one thread.
The second peer is the fastest set-up of torch's own: whole batches of indices handed to the data set at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

from aleator.data import InMemoryLoader, load
from benchmarks.pairs import interleave

BATCH = 128


def benchmark() -> list[dict[str, Any]]:
    """Return the ratio of times against both peers."""
    inputs, targets = load("mnist").train
    generator = torch.Generator().manual_seed(0)
    data = TensorDataset(inputs, targets)
    by_example = DataLoader(data, batch_size=BATCH, shuffle=True, generator=generator)
    indices = BatchSampler(RandomSampler(data, generator=generator), BATCH, drop_last=False)
    by_batch = DataLoader(data, sampler=indices, batch_size=None, generator=generator)

    def ours() -> None:
        order = torch.randperm(len(inputs), generator=generator)
        _exhaust(InMemoryLoader((inputs, targets), torch.split(order, BATCH)))

    what = f"a pass over {len(inputs)} MNIST images, batch {BATCH}, shuffled"
    return [
        interleave(ours, lambda: _exhaust(by_example)).row(what, "DataLoader", "≥ 5"),
        interleave(ours, lambda: _exhaust(by_batch)).row(what, "DataLoader over BatchSampler", "none"),
    ]


def _exhaust(batches: Iterable[Any]) -> None:
    for inputs, _ in batches:
        inputs[0, 0, 0, 0].item()  # a byte is read, so that no work is left undone
