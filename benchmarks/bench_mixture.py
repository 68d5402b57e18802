"""The time of a batch of example indices from nine domains: `MixtureSampler` against its peers, on one thread.

The domains have the sizes of the paper's OPUS-100 subset, scaled to 10⁷ examples, at a temperature of 5. Every side
hands out batches of 256 indices; building it counts. torch's `WeightedRandomSampler` draws examples with their own
weights, with replacement, an epoch of 10⁷ at once. ``datasets.interleave_datasets`` draws domains independently, until
the first is used up, and reads each in its order; its tables hold nothing but the indices, are in memory, and are read
in batches. (Its streaming form is slower.)
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import BatchSampler, WeightedRandomSampler

from aleator.data import DomainMixture, MixtureSampler
from benchmarks.pairs import interleave

BATCH = 256
EXAMPLES = 10**7
OPUS = {"es": 1000, "fa": 1000, "ga": 294, "gl": 519, "ha": 102, "hi": 538, "it": 1000, "kk": 83, "ug": 76}
SIZES = {name: EXAMPLES * n // sum(OPUS.values()) for name, n in OPUS.items()}


def benchmark() -> list[dict[str, Any]]:
    """Return the ratio of times against both peers."""
    torch_batches, table_batches = sum(SIZES.values()) // BATCH, 7000
    rows = [
        interleave(lambda: _exhaust(_ours(torch_batches)), lambda: _exhaust(_torch(torch_batches)), pairs=3).row(
            _what(torch_batches), "WeightedRandomSampler, BatchSampler", "≥ 10"
        )
    ]
    tables = _tables()
    sides = (lambda: _exhaust(_ours(table_batches)), lambda: _exhaust(_interleaved(tables, table_batches)))
    rows.append(interleave(*sides, pairs=3).row(_what(table_batches), "datasets.interleave_datasets", "≥ 10"))
    return rows


def _what(batches: int) -> str:
    return f"{batches:,} batches of {BATCH} indices, {len(SIZES)} domains, {sum(SIZES.values()):,} examples"


def _mixture(batches: int) -> DomainMixture:
    return DomainMixture(SIZES, temperature=5.0, total_steps=batches)


def _ours(batches: int) -> Iterable[Any]:
    return MixtureSampler(SIZES, _mixture(batches), BATCH).batches()


def _torch(batches: int) -> Iterable[Any]:
    sizes = np.array(list(SIZES.values()))
    weights = torch.from_numpy(np.repeat(_mixture(1).probabilities(0) / sizes, sizes))
    generator = torch.Generator().manual_seed(0)
    sampler = WeightedRandomSampler(weights, batches * BATCH, generator=generator)  # type: ignore[arg-type]  # as it is used
    return BatchSampler(sampler, BATCH, drop_last=True)


def _tables() -> list[Any]:
    """Return a table of indices for each domain. Making them is the peer's storage, and is not timed."""
    import datasets

    starts = itertools.accumulate(SIZES.values(), initial=0)
    return [
        datasets.Dataset.from_dict({"index": np.arange(start, start + n)}).with_format("numpy")
        for start, n in zip(starts, SIZES.values(), strict=False)
    ]


def _interleaved(tables: list[Any], batches: int) -> Iterator[Any]:
    import datasets

    mixed = datasets.interleave_datasets(tables, probabilities=_mixture(1).probabilities(0).tolist(), seed=0)
    for start in range(0, batches * BATCH, BATCH):
        yield mixed[start : start + BATCH]["index"]


def _exhaust(batches: Iterable[Any]) -> None:
    for _ in batches:
        pass
