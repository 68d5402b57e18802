"""The time of a sampler's step on a CPU, one thread, beside torch's SGD and RMSprop (foreach).

About 3.1 million parameters in 122 tensors, shaped like a small transformer's. A sampler draws a normal number for
every parameter, which on a CPU costs more than the step itself: the last row is that draw alone, as the peer.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from aleator.sde import SGHMC, SGLD, PreconditionedSGLD
from benchmarks.bench_lamb import _parameters
from benchmarks.pairs import interleave


def benchmark() -> list[dict[str, Any]]:
    """Return peer / ours for every sampler."""

    def seeded() -> torch.Generator:
        return torch.Generator().manual_seed(0)

    sgld = SGLD(_parameters(), lr=1e-9, n_data=1000, generator=seeded())
    cold = SGLD(_parameters(), lr=1e-9, n_data=1000, temperature=0.0, generator=seeded())
    psgld = PreconditionedSGLD(_parameters(), lr=1e-9, n_data=1000, generator=seeded())
    sghmc = SGHMC(_parameters(), lr=1e-9, n_data=1000, generator=seeded())
    sgd = torch.optim.SGD(_parameters(), lr=1e-6, foreach=True)
    momentum = torch.optim.SGD(_parameters(), lr=1e-6, momentum=0.9, foreach=True)
    rmsprop = torch.optim.RMSprop(_parameters(), lr=1e-6, foreach=True)
    count, generator = sum(p.numel() for p in _parameters()), seeded()

    def draw() -> Tensor:
        return torch.randn(count, generator=generator)

    what = f"a step of {{}}, {count:,} parameters in {len(_parameters())} tensors"
    return [
        interleave(sgld.step, sgd.step, pairs=9, number=3).row(what.format("SGLD"), "torch SGD", "–"),
        interleave(cold.step, sgd.step, pairs=9, number=3).row(what.format("SGLD at temperature 0"), "torch SGD", "–"),
        interleave(psgld.step, rmsprop.step, pairs=9, number=3).row(
            what.format("PreconditionedSGLD"), "torch RMSprop", "–"
        ),
        interleave(sghmc.step, momentum.step, pairs=9, number=3).row(what.format("SGHMC"), "torch SGD, momentum", "–"),
        interleave(sgld.step, draw, pairs=9, number=3).row(what.format("SGLD"), "torch.randn of as many", "–"),
    ]
