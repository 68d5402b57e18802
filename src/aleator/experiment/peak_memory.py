"""The most memory that a process ever held."""

from __future__ import annotations

import sys
from pathlib import Path

import torch

_STATUS = Path("/proc/self/status")


def peak_memory(device: torch.device) -> int:
    """Return the most memory this process ever held, in bytes: the device's for a GPU, else the resident set."""
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else resident_peak()


def resident_peak() -> int:
    """Return the largest resident set of this process in bytes; 0 where the system does not tell, on Windows."""
    if (peak := _high_water_mark()) is not None:  # the other way begins, on Linux, at the peak of what started this one
        return peak
    try:
        import resource
    except ImportError:
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _high_water_mark() -> int | None:
    """Return what Linux keeps of this process; None elsewhere, and in sandboxes that do not say it."""
    try:
        lines = _STATUS.read_bytes().splitlines()  # the name of a process may be any bytes
    except OSError:
        return None
    line = next((line for line in lines if line.startswith(b"VmHWM:")), None)
    return None if line is None else int(line.split()[1]) * 1024
