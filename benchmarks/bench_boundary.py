"""Pooling and upsampling, forward and backward, on one thread: ours against the dense form of the published code.

Eight rows of 128 channels, a boundary with probability 0.2 at every position, gradients for hidden states and
boundaries. The dense form makes tensors of batch × length × segments; what the autograd graph holds between forward
and backward is counted for both.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aleator.nn import segment_broadcast, segment_mean
from benchmarks.dense_pooling import dense_pool, dense_upsample
from benchmarks.pairs import Pairs, interleave

BATCH, CHANNELS, RATE = 8, 128, 0.2
Pass = Callable[[Tensor, Tensor, Tensor], Tensor]


def benchmark() -> list[dict[str, Any]]:
    """Return dense / ours: seconds for several lengths, and the bytes that are kept for the backward pass."""
    rows = []
    targets = {256: "–", 512: "≥ 2", 1024: "more than at 512", 2048: "more than at 1024"}
    for length, target in targets.items():
        inputs = _inputs(length)
        what = f"pooling and upsampling, forward and backward, L = {length}"
        timed = interleave(lambda i=inputs: _step(_ours, *i), lambda i=inputs: _step(_dense, *i), pairs=15, number=5)  # type: ignore[misc]
        rows.append(timed.row(what, "dense", target))
    for length in targets:
        ours, dense = (float(_saved_bytes(made, *_inputs(length))) for made in (_ours, _dense))
        per_value = ours / (4 * BATCH * length * CHANNELS)
        what = f"kept for the backward pass, L = {length}: {per_value:.2f} times the hidden states"
        rows.append(Pairs([ours], [dense]).row(what, "dense", "constant times B·L·C", unit="bytes"))
    return rows


def _ours(hidden: Tensor, boundaries: Tensor, null: Tensor) -> Tensor:
    # The number of slots is read from the device, as in the dense form.
    pooled = segment_mean(hidden, boundaries, null, num_segments=int(boundaries.detach().sum(1).max()))
    return segment_broadcast(pooled, boundaries)


def _dense(hidden: Tensor, boundaries: Tensor, null: Tensor) -> Tensor:
    pooled = torch.cat([null.expand(len(hidden), 1, -1), dense_pool(hidden, boundaries)], dim=1)
    return dense_upsample(pooled, boundaries)


def _step(made: Pass, hidden: Tensor, boundaries: Tensor, null: Tensor, weight: Tensor) -> None:
    hidden.grad = boundaries.grad = null.grad = None
    made(hidden, boundaries, null).backward(weight)  # type: ignore[no-untyped-call]


def _saved_bytes(made: Pass, hidden: Tensor, boundaries: Tensor, null: Tensor, _: Tensor) -> int:
    """Return the size of the storages that the graph keeps, the inputs left out."""
    given = {tensor.untyped_storage().data_ptr() for tensor in (hidden, boundaries, null)}
    kept: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in given:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        out = made(hidden, boundaries, null)
    total = sum(kept.values())
    del out  # until here the graph is alive, so that no storage can take another's place
    return total


def _inputs(length: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(length)
    hidden = torch.randn(BATCH, length, CHANNELS, generator=generator).requires_grad_()
    boundaries = (torch.rand(BATCH, length, generator=generator) < RATE).float().requires_grad_()
    null = torch.randn(CHANNELS, generator=generator).requires_grad_()
    return hidden, boundaries, null, torch.randn(BATCH, length, CHANNELS, generator=generator)
