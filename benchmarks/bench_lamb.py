"""The time of a LAMB step on a CPU, one thread: ours against `pytorch_optimizer.Lamb`, and against torch's AdamW.

About 3.1 million parameters in 122 tensors, shaped like a small transformer's. The peer is no dependency of ours. It is
read from a folder of its own, so that nothing else in the environment changes:

    pip install --no-deps --target /tmp/peers pytorch_optimizer
    ALEATOR_PEERS=/tmp/peers make bench NAME=lamb

Both LAMBs do the same work: bias correction, weight decay 0.01, no clipping, every tensor adapted. The peer limits ‖w‖
to 10, which costs nothing.
"""

from __future__ import annotations

import os
import sys
from importlib.metadata import distributions
from typing import Any

import torch
from torch import Tensor

from aleator.optim import LAMB, LARS
from benchmarks.pairs import interleave

WIDTH, BLOCKS = 144, 12


def benchmark() -> list[dict[str, Any]]:
    """Return peer / ours for LAMB against its peer and, for scale, against AdamW; and LARS against SGD."""
    folder = os.environ.get("ALEATOR_PEERS", "/tmp/peers")
    sys.path.append(folder)
    try:
        from pytorch_optimizer import Lamb  # type: ignore[import-not-found,import-untyped,unused-ignore]
    except ImportError as error:
        raise SystemExit(f"no pytorch_optimizer in {folder}: see {__file__}") from error
    finally:
        sys.path.remove(folder)
    version = next(found.version for found in distributions(path=[folder]) if found.name == "pytorch_optimizer")

    ours = LAMB(_parameters(), lr=1e-3)
    peer = Lamb(_parameters(), lr=1e-3, weight_decay=0.01)
    adamw = torch.optim.AdamW(_parameters(), lr=1e-3)
    lars = LARS(_parameters(), lr=1e-3, form="algorithm1")
    sgd = torch.optim.SGD(_parameters(), lr=1e-3, momentum=0.9)
    what = f"a LAMB step, {sum(p.numel() for p in _parameters()):,} parameters in {len(_parameters())} tensors"
    return [
        interleave(ours.step, peer.step, pairs=15, number=10).row(
            what, f"pytorch_optimizer {version} Lamb", "≥ 1.67 (0.6 of its time)"
        ),
        interleave(ours.step, adamw.step, pairs=15, number=10).row(what, "torch AdamW", "–"),
        interleave(lars.step, sgd.step, pairs=15, number=10).row(
            what.replace("LAMB", "LARS"), "torch SGD, momentum", "–"
        ),
    ]


def _parameters() -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    d = WIDTH
    block = [(3 * d, d), (3 * d,), (d, d), (d,), (4 * d, d), (4 * d,), (d, 4 * d), (d,), (d,), (d,)]
    shapes = [*(block * BLOCKS), (1000, d), (d,)]
    parameters = [torch.randn(shape, generator=generator).requires_grad_() for shape in shapes]
    for parameter in parameters:
        parameter.grad = torch.randn(parameter.shape, generator=generator)
    return parameters
