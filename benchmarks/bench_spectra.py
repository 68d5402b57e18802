"""The time of an optimizer step: SPECTRA-AdamW against `torch.optim.Muon`, and against the wrapper around AdamW.

The parameters are the matrices of transformer blocks, with fused and with separate projections. Muon computes in
bfloat16, for which torch has no fast products on a CPU without instructions for it; for the comparison in float32, the
default of SPECTRA, its cast is left out. One thread on a CPU; on a GPU where there is one.
"""

from __future__ import annotations

import itertools
import time
from contextlib import nullcontext
from functools import partial
from timeit import default_timer
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.overrides import TorchFunctionMode

from aleator.optim import Spectra, SpectraAdamW
from benchmarks.pairs import Pairs, interleave

BLOCKS, WIDTH = (12, 768) if torch.cuda.is_available() else (1, 512)
FUSED = [(3 * WIDTH, WIDTH), (WIDTH, WIDTH), (4 * WIDTH, WIDTH), (WIDTH, 4 * WIDTH)]
SEPARATE = [*[(WIDTH, WIDTH)] * 4, *[(8 * WIDTH // 3, WIDTH)] * 2, (WIDTH, 8 * WIDTH // 3)]


def benchmark() -> list[dict[str, Any]]:
    """Return the ratio of step times for both sets of matrices and both precisions, and native against wrapper."""
    rows = []
    for (name, shapes), dtype in itertools.product(
        (("fused", FUSED), ("separate", SEPARATE)), (torch.bfloat16, torch.float32)
    ):
        ours = SpectraAdamW(_parameters(shapes), lr=1e-3, compute_dtype=dtype)
        peer = torch.optim.Muon(_parameters(shapes), lr=1e-3)
        what = f"step in {str(dtype)[6:]}, {BLOCKS} block(s) of width {WIDTH}, {name} projections"
        with nullcontext() if dtype == torch.bfloat16 else _WithoutCast():
            target = "≥ 1" if (name, dtype) == ("separate", torch.bfloat16) else "≥ 0.8"
            rows.append(_timed(ours, peer).row(f"SPECTRA-AdamW, {what}", "torch.optim.Muon", target))
    native = SpectraAdamW(_parameters(FUSED), lr=1e-3)
    wrapper = Spectra(torch.optim.AdamW(_parameters(FUSED), lr=1e-3, weight_decay=0.1))
    what = f"step in float32, {BLOCKS} block(s) of width {WIDTH}, fused projections"
    rows.append(_timed(native, wrapper).row(f"SPECTRA-AdamW, {what}", "Spectra(torch.optim.AdamW)", "≥ 1.5"))
    return rows


class _WithoutCast(TorchFunctionMode):
    """Leaves out every cast to bfloat16, of which Muon's step has one."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return args[0].clone() if func is Tensor.bfloat16 else func(*args, **(kwargs or {}))


def _timed(ours: Optimizer, peer: Optimizer) -> Pairs:
    clock = default_timer if torch.cuda.is_available() else time.process_time
    return interleave(partial(_step, ours), partial(_step, peer), clock=clock)


def _parameters(shapes: list[tuple[int, int]]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    parameters: list[Tensor] = []
    for shape in shapes * BLOCKS:
        p = torch.nn.Parameter(torch.randn(shape, generator=generator).mul_(0.02).to(device))
        p.grad = torch.randn(shape, generator=generator).to(device)
        parameters.append(p)
    return parameters


def _step(optimizer: Optimizer) -> None:
    optimizer.step()
