"""The accelerator of a run: one process to many nodes, mixed precision, through Hugging Face Accelerate."""

from __future__ import annotations

import atexit
import functools
import gc
import os

import torch
from accelerate import Accelerator

_MIXED = {"float32": "no", "float64": "no", "bfloat16": "bf16", "float16": "fp16"}


def make_accelerator(precision: str | None = None) -> Accelerator:
    """Return the accelerator of a run: the GPU where there is one, else the CPU.

    Args:
        precision: one of float32, float64, bfloat16, float16. None takes what this process computes in already, and
            float32 in a fresh one.

    Raises:
        ValueError: if the precision is unknown or this machine does not have it.
        RuntimeError: if the launcher started several processes that did not find each other.
    """
    if precision is not None and precision not in _MIXED:
        raise ValueError(f"precision must be one of {', '.join(_MIXED)}, got {precision!r}")
    on_cpu = not torch.cuda.is_available()
    if precision == "float16" and on_cpu:
        raise ValueError("precision float16 needs a GPU, and there is none here (bfloat16 works on the CPU)")
    accelerator = Accelerator(cpu=on_cpu, mixed_precision=_MIXED[precision] if precision else None)
    # A launcher's environment may set it; accumulation is ours to weight, see `GradientStep`.
    accelerator.gradient_accumulation_steps = 1
    launched = int(os.environ.get("WORLD_SIZE", "1"))
    if launched != accelerator.num_processes:
        found = accelerator.num_processes
        raise RuntimeError(f"the launcher started {launched} processes, but {found} found each other")
    if launched > 1:
        _leave_in_order()
    return accelerator


@functools.cache
def _leave_in_order() -> None:
    """End the process groups before the interpreter goes down.

    A thread of gloo that gives back a tensor's Python object while the interpreter is going down is ended inside a
    function of C++ that must not be left so, and aborts the process ("terminate called without an active exception").
    Ending the groups waits for their threads. What is in no use but in a cycle goes first: a model in
    `DistributedDataParallel` that were the last to hold its group would wait for these threads without letting go of
    the GIL, for which they may wait.
    """
    atexit.register(_end_groups)


def _end_groups() -> None:
    if torch.distributed.is_initialized():
        gc.collect()
        torch.distributed.destroy_process_group()
