"""The time of a step of LAMB and of LARS on a CPU, one thread: ours against a peer, and against what does less.

120 tensors with 2.5 million parameters, shaped like a small transformer's, and 6 matrices of 4096 × 1024. The peer is
`pytorch_optimizer`, which `benchmarks.peers` reads from a folder of its own. All LAMBs do the same work: bias
correction, weight decay 0.01, no clipping, every tensor adapted. The peer limits ‖w‖ to 10, which costs nothing. The
limits are torch's fused AdamW and SGD, which have no norms to wait for. torch's own functions, many tensors at once,
stand for a machine without numba.

Seconds are the processor's.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from aleator.optim import LAMB, LARS
from benchmarks.pairs import interleave
from benchmarks.peers import package, rows_of_a_peer

WIDTH, BLOCKS = 132, 12
_BLOCK = [
    *((3 * WIDTH, WIDTH), (3 * WIDTH,), (WIDTH, WIDTH), (WIDTH,)),
    *((4 * WIDTH, WIDTH), (4 * WIDTH,), (WIDTH, 4 * WIDTH), (WIDTH,), (WIDTH,), (WIDTH,)),
]
SHAPES: dict[str, tuple[list[tuple[int, ...]], int]] = {  # with how many steps are taken in one timing
    "many tensors": (_BLOCK * BLOCKS, 10),
    "large tensors": ([(4096, 1024)] * 6, 1),
}
PAIRS = 31


def benchmark() -> list[dict[str, Any]]:
    """Return peer / ours, and ours / limit, for LAMB and for both forms of LARS."""
    rows: list[dict[str, Any]] = []
    for kind, most in (("many tensors", 1.8), ("large tensors", 1.6)):
        with rows_of_a_peer(), package("pytorch_optimizer") as versions:
            from pytorch_optimizer import Lamb  # type: ignore[import-not-found,import-untyped,unused-ignore]

            peer = Lamb(_parameters(kind), lr=1e-3, weight_decay=0.01)
            name = f"pytorch_optimizer {versions['pytorch_optimizer']} Lamb"
            rows.append(_lamb(kind, peer.step, name, "≥ 1.67 (0.6 of its time)", most))
        by_torch = LAMB(_parameters(kind), lr=1e-3, foreach=True)
        rows.append(_lamb(kind, by_torch.step, "ours by torch's functions", "≥ 1", most))
    for kind, form in (("many tensors", "original"), ("many tensors", "algorithm1"), ("large tensors", "algorithm1")):
        ours = LARS(_parameters(kind), lr=1e-3, form=form)  # type: ignore[arg-type]
        sgd = torch.optim.SGD(_parameters(kind), lr=1e-3, momentum=0.9)
        fused = torch.optim.SGD(_parameters(kind), lr=1e-3, momentum=0.9, fused=True)
        timings = interleave(
            ours.step, sgd.step, limit=fused.step, pairs=PAIRS, number=SHAPES[kind][1], clock=time.process_time
        )
        what = f"a LARS step, {form}, {_described(kind)}"
        rows.append(timings.row(what, "torch SGD, momentum", "–", limit=("torch fused SGD", 2.5)))
    return rows


def _lamb(kind: str, peer: Callable[[], object], name: str, target: str, most: float) -> dict[str, Any]:
    ours = LAMB(_parameters(kind), lr=1e-3)
    adamw = torch.optim.AdamW(_parameters(kind), lr=1e-3, fused=True)
    timings = interleave(
        ours.step, peer, limit=adamw.step, pairs=PAIRS, number=SHAPES[kind][1], clock=time.process_time
    )
    return timings.row(f"a LAMB step, {_described(kind)}", name, target, limit=("torch fused AdamW", most))


def _described(kind: str) -> str:
    parameters = _parameters(kind)
    return f"{sum(p.numel() for p in parameters):,} parameters in {len(parameters)} tensors"


def _parameters(kind: str = "many tensors") -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    parameters = [torch.randn(shape, generator=generator).requires_grad_() for shape in SHAPES[kind][0]]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters
