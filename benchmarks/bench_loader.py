"""Examples per second of `aleator.data.InMemoryLoader` against `torch.utils.data.DataLoader`, on MNIST in memory.

Both go through the 60,000 training images once per round, in a fresh random order, in batches of 128, in one process
and on one thread. Rounds are interleaved, ours and then the peer's, so that both see the same machine; each round gives
one ratio of times. A byte of each batch is read, so that no work is left undone.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from aleator.data.images import load
from aleator.data.in_memory import InMemoryLoader

BATCH = 128
ROUNDS = 11


def benchmark() -> dict[str, Any]:
    """Run the comparison and return its result; ratios are the peer's time divided by ours."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _benchmark()
    finally:
        torch.set_num_threads(threads)


def _benchmark() -> dict[str, Any]:
    inputs, targets = load("mnist").train
    generator = torch.Generator().manual_seed(0)
    peer_loader = DataLoader(TensorDataset(inputs, targets), batch_size=BATCH, shuffle=True, generator=generator)

    def ours() -> Iterable[Any]:
        return InMemoryLoader((inputs, targets), torch.split(torch.randperm(len(inputs), generator=generator), BATCH))

    def peer() -> Iterable[Any]:
        return peer_loader

    _seconds(ours, len(inputs)), _seconds(peer, len(inputs))  # the first round warms caches and allocator
    pairs = [(_seconds(ours, len(inputs)), _seconds(peer, len(inputs))) for _ in range(ROUNDS)]
    ratios = [theirs / own for own, theirs in pairs]
    return {
        "name": "in-memory loader",
        "what": f"one pass over MNIST ({len(inputs)} images), uint8, batch {BATCH}, shuffled, one process, one thread",
        "ours": len(inputs) / statistics.median(own for own, _ in pairs),
        "peer": len(inputs) / statistics.median(theirs for _, theirs in pairs),
        "ratio": {"median": statistics.median(ratios), "low": min(ratios), "high": max(ratios)},
        "target": ">= 5x",
        "unit": "examples/s",
    }


def _seconds(loader: Callable[[], Iterable[tuple[Tensor, Tensor]]], expected: int) -> float:
    seen = 0
    start = time.perf_counter()
    for inputs, targets in loader():
        inputs[0, 0, 0, 0].item()
        seen += len(targets)
    seconds = time.perf_counter() - start
    assert seen == expected
    return seconds


if __name__ == "__main__":
    print(json.dumps(benchmark(), indent=2))
