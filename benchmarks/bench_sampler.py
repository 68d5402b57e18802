"""The time and memory of an epoch of index batches: `RepeatedRandomSampler.batches` against torch's samplers.

Both sides run through every batch of 128 of a shuffled epoch, short batch dropped, with one thread. Up to 10^7 examples
they take turns in one process, and with them the limit, `torch.randperm`. 7 812 tensors of a batch each take about as
long to make as the order itself, so there is a second limit, the same permutation cut into as many, and a row for the
indices of an epoch in one tensor. Above, where the peer needs minutes and gigabytes, each side runs once in a fresh
process, which gives its peak memory as well.
"""

from __future__ import annotations

import itertools
import multiprocessing
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import torch
from torch.utils.benchmark import Timer
from torch.utils.data import BatchSampler, RandomSampler

from aleator.data import RepeatedRandomSampler
from aleator.experiment.peak_memory import resident_peak
from benchmarks.pairs import Pairs, interleave

BATCH = 128
PEER = "BatchSampler(RandomSampler)"

Side = Callable[[int], Iterable[Any]]


def benchmark() -> list[dict[str, Any]]:
    """Return the ratio of times at 10^6 and 10^8 examples, and of memory at 10^8."""
    n = 10**6
    ours, peer = partial(_exhaust, _ours(n)), partial(_exhaust, _peer(n))
    permuted, cut = partial(torch.randperm, n), partial(_cut, n)
    rows = [
        interleave(ours, peer, limit=limit, clock=time.process_time, pairs=31).row(
            _what(n), PEER, "≥ 10", limit=(name, 1.3)
        )
        for name, limit in (("torch.randperm", permuted), ("torch.randperm, cut into batches", cut))
    ]
    sampler, rounds = RepeatedRandomSampler(n, ratio=1), itertools.count()
    whole = partial(_whole_round, sampler, rounds)
    timings = interleave(whole, permuted, limit=permuted, clock=time.process_time, pairs=31)
    rows.append(
        timings.row(f"the indices of an epoch, N = {n:,}", "torch.randperm", "–", limit=("torch.randperm", 1.3))
    )
    (own_seconds, own_bytes), (peer_seconds, peer_bytes) = (_alone(side, 10**8) for side in (_ours, _peer))
    memory = Pairs([own_bytes], [peer_bytes]).row(f"peak memory of {_what(10**8)}", PEER, "constant in N", unit="bytes")
    return [
        *rows,
        Pairs([own_seconds], [peer_seconds]).row(_what(10**8), PEER, "≥ 10"),
        memory,
    ]


def _what(n: int) -> str:
    return f"an epoch of index batches, N = {n:,}, batch {BATCH}"


def _ours(n: int) -> Iterable[Any]:
    return RepeatedRandomSampler(n, ratio=1).batches(BATCH)


def _peer(n: int) -> Iterable[Any]:
    return BatchSampler(RandomSampler(range(n), generator=torch.Generator().manual_seed(0)), BATCH, drop_last=True)


def _cut(n: int) -> object:
    return torch.randperm(n)[: n // BATCH * BATCH].view(-1, BATCH).unbind()


def _whole_round(sampler: RepeatedRandomSampler, rounds: Iterator[int]) -> object:
    return sampler.round_indices(next(rounds))


def _exhaust(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass


def _alone(side: Side, n: int) -> tuple[float, float]:
    """Return the seconds of one epoch in a fresh process, and by how many bytes its peak memory grew."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measured, (side, n))


def _measured(side: Side, n: int) -> tuple[float, float]:
    _exhaust(side(BATCH))  # what is imported and allocated once does not count
    before = resident_peak()
    timer = Timer("exhaust(side(n))", globals={"exhaust": _exhaust, "side": side, "n": n}, num_threads=1)
    return timer.timeit(1).mean, resident_peak() - before
