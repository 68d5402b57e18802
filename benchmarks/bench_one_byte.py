"""Steps along random directions: against MeZO, many at once, replayed, and what travels.

    make bench NAME=one_byte

All on one thread, by processor time. MeZO is written from its paper in `benchmarks.mezo`; it draws normal numbers, ours
are signs, the default. The step is that of a small GPT-2 with one gradient. "Draw and add" is what a program does that
regenerates each direction with `torch.randn` and adds it. The limit of the generator is the time of making the words
alone, of which a direction of signs takes one for 32 elements.

The memory row compares a step along 64 directions over 64 MiB of weights with the same number of elements in pieces
that stay in the second cache: if every direction went over memory, the first would be slower by the 64 passes.
"""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.func import functional_call
from transformers import GPT2Config, GPT2LMHeadModel

from aleator.gradients import apply_scalars_, spsa
from aleator.random import Streams, checked_keys, kernels, subtract_directions
from benchmarks.mezo import mezo_step
from benchmarks.pairs import interleave

SIZE, MANY = 1 << 20, 64
KEYS = checked_keys([(1, 0, machine, 0) for machine in range(MANY)])


def benchmark() -> list[dict[str, Any]]:
    """Return the rows of the table."""
    torch.set_num_threads(1)
    return [_step(), _fused(), _passes(), _memory(), *(_replay(size) for size in (2410, SIZE)), *_bytes()]


def _step() -> dict[str, Any]:
    config = GPT2Config(
        vocab_size=1024, n_positions=64, n_embd=256, n_layer=4, n_head=4,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
    )  # fmt: skip
    with Streams(0).scope("init"):
        model: nn.Module = GPT2LMHeadModel(config)
    model.eval()
    ids = torch.randint(1024, (8, 64), generator=torch.Generator().manual_seed(0))
    inputs = {"input_ids": ids, "labels": ids, "use_cache": False}
    theta = {name: parameter.detach() for name, parameter in model.named_parameters()}
    count = sum(tensor.numel() for tensor in theta.values())
    generator, turn = torch.Generator(), [0]

    def ours() -> None:
        turn[0] += 1
        key = (1, turn[0], 0, 0)
        g = spsa(lambda t: functional_call(model, t, (), inputs).loss, theta, None, 1e-3, key=key)
        apply_scalars_(theta, [g], None, 1e-6, keys=[key])

    def peer() -> None:
        turn[0] += 1
        mezo_step([*theta.values()], lambda: model(**inputs).loss, generator, turn[0], 1e-6, 1e-3)

    pairs = interleave(ours, peer, pairs=9, clock=time.process_time)
    what = f"a step at one gradient, GPT-2 with {count / 1e6:.1f} M weights, 512 words"
    return pairs.row(what, "MeZO", "≤ 0.15 more", figure="overhead")


def _apply(values: torch.Tensor, count: int) -> None:
    subtract_directions(values, np.full(count, 1e-6), KEYS[:count])


def _fused() -> dict[str, Any]:
    values = torch.zeros(SIZE)
    pairs = interleave(lambda: _apply(values, MANY), lambda: _apply(values, 1), pairs=31, clock=time.process_time)
    return pairs.row(f"{MANY} directions over 1 M weights in one pass", "1 direction", "≤ 40", figure="cost")


def _passes() -> dict[str, Any]:
    values, generator = torch.zeros(SIZE), torch.Generator()

    def peer() -> None:
        for seed in range(MANY):
            generator.manual_seed(seed)
            values.add_(torch.randn(values.shape, generator=generator), alpha=-1e-6)

    pairs = interleave(lambda: _apply(values, MANY), peer, pairs=7, clock=time.process_time)
    return pairs.row(f"{MANY} directions over 1 M weights in one pass", "draw and add, one after the other", "≥ 10")


def _memory() -> dict[str, Any]:
    whole = torch.zeros(16 * SIZE)
    piece = torch.zeros(16 * kernels.TILE)

    def in_cache() -> None:
        for _ in range(whole.numel() // piece.numel()):
            _apply(piece, MANY)

    pairs = interleave(lambda: _apply(whole, MANY), in_cache, pairs=7, clock=time.process_time)
    return pairs.row(f"{MANY} directions over 64 MiB", "over 128 KiB, 512 times", "≥ 0.9")


def _replay(size: int) -> dict[str, Any]:
    values = torch.zeros(size)
    rounds = max(1, 2048 * 2410 // size // MANY)
    blocks = -(-size // 128) * MANY
    words = np.empty((4, blocks), np.uint32)

    def ours() -> None:
        for _ in range(rounds):
            _apply(values, MANY)

    def limit() -> None:
        for _ in range(rounds):
            kernels._fill_blocks(words, KEYS[0], np.uint64(0), 0, blocks)

    pairs = interleave(ours, limit, pairs=7, clock=time.process_time)
    what = f"replay, {size} weights, {rounds * MANY} gradients"
    return pairs.row(what, "as many words alone", "–")


def _bytes() -> list[dict[str, Any]]:
    """What a machine sends and receives in a round: counted, not timed."""
    rows = []
    for weights in (2410, 6_700_000_000):
        machines, gradients = 4, 16
        ours = machines * gradients  # its own, and everybody else's
        reduced = 2 * 2 * (machines - 1) / machines * weights * (4 if weights < 10**6 else 2)
        ratio = reduced / ours
        rows.append(
            {
                "what": f"bytes of a machine in a round: {weights:.3g} weights, {machines} machines × {gradients}",
                "ours": f"{ours} B and headers",
                "peer": f"DDP's all-reduce in a ring: {reduced:.3g} B",
                "ratio": {"median": ratio, "low": ratio, "high": ratio},
                "pairs": 0,
                "target": "–",
            }
        )
    return rows
