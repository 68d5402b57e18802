"""Means of training metrics between two log lines, added up on the device and read when they are logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor


class Averages:
    """Sums of 0-d tensors by name, and how many steps had them."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, int] = {}

    def add(self, metrics: Mapping[str, Tensor]) -> None:
        """Add the metrics of one step. Nothing is read from the device."""
        for name, value in metrics.items():
            value = value.detach()
            if name in self._sums:  # after a resume a sum is on the CPU
                self._sums[name] = self._sums[name].to(value.device) + value
            else:
                self._sums[name] = value.clone()
            self._counts[name] = self._counts.get(name, 0) + 1

    def take(self, device: torch.device, over_processes: Callable[[Tensor], Tensor]) -> dict[str, float]:
        """Return the mean of each metric over the steps that had it, and start anew.

        Args:
            device: where the processes meet.
            over_processes: turns a tensor of all means into their mean over the processes, which have the same names.
        """
        names = sorted(self._sums)
        if not names:
            return {}
        means = [self._sums[name].to(device, torch.float64) / self._counts[name] for name in names]
        reduced = over_processes(torch.stack(means)).tolist()
        self._sums, self._counts = {}, {}
        return dict(zip(names, reduced, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return the sums, on the CPU, and the counts."""
        return {"sums": {name: value.cpu() for name, value in self._sums.items()}, "counts": dict(self._counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a state."""
        self._sums, self._counts = dict(state["sums"]), dict(state["counts"])
