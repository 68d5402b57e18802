"""Batches that have addresses, like the directions.

A batch is a function of (run, round, machine, sample), drawn by the same bits: who comes back after a crash, or
computes for somebody else, has the same batch without any state. The bits are those of a tensor that no parameter can
be.
"""

from __future__ import annotations

from jaxtyping import Int64
from torch import Tensor

from aleator.random import random_bits

_BATCHES = 2**32 - 1  # the number of the tensor whose bits choose batches: no set of parameters has as many


def check_shards(shards: int | None, examples: int) -> None:
    """Refuse more private parts than there are examples.

    Raises:
        ValueError: if there are.
    """
    if shards is not None and shards > examples:
        raise ValueError(f"shards must be at most the number of training examples, {examples}, got {shards}")


def batch_indices(
    run: int, number: int, machine: int, sample: int, *, size: int, examples: int, shards: int | None = None
) -> Int64[Tensor, " size"]:
    """Return which examples are in a batch, drawn with replacement, by address.

    Args:
        run: of the swarm.
        number: of the round.
        machine: who computes it; with ``shards`` it sees only examples i with i mod shards = machine mod shards.
        sample: number of the gradient within the round and the machine.
        size: examples to draw.
        examples: how many there are.
        shards: private parts.

    Raises:
        ValueError: if there are fewer examples than shards.
    """
    check_shards(shards, examples)
    parts = shards or 1
    part = machine % parts
    count = (examples - part + parts - 1) // parts
    bits = random_bits((run, number, machine, sample), _BATCHES, range(size))
    return part + parts * ((bits * count) >> 32)
