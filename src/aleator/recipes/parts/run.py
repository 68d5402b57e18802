"""The parts of a run that an act is given: the options, the random streams, the accelerator."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator

from aleator.random import Streams


@dataclass(frozen=True)
class Run:
    """A run as its parts see it.

    Attributes:
        options: the recipe.
        streams: of the run. A part draws from what `generator` returns and from nothing else.
        accelerator: of the run.
    """

    options: Any
    streams: Streams
    accelerator: Accelerator

    def generator(self, *names: str | int, per_process: bool = False, on_device: bool = False) -> torch.Generator:
        """Return the generator of a name, the same object every time; see `Streams.generator`.

        Args:
            names: begin with the part's own.
            per_process: whether each process has numbers of its own.
            on_device: whether the generator is the accelerator's instead of the CPU's.
        """
        rank = self.rank if per_process else None
        return self.streams.generator(*names, rank=rank, device=self.device if on_device else "cpu")

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def dtype(self) -> torch.dtype:
        """Of weights and of what is computed outside of mixed precision."""
        return torch.float64 if self.options.precision == "float64" else torch.float32

    @property
    def rank(self) -> int:
        """The number of this process."""
        rank: int = self.accelerator.process_index
        return rank

    @property
    def processes(self) -> int:
        """How many processes share a batch."""
        processes: int = self.accelerator.num_processes
        return processes
