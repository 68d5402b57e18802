"""A supervised recipe as the curvature sees it: outputs, their mean loss, and samples of training examples."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from aleator.random import Streams
from aleator.recipes.parts.losses import wide


class Called(nn.Module):
    """A network that is called as its recipe calls it."""

    def __init__(self, network: nn.Module, options: Any) -> None:
        super().__init__()
        self.network = network
        self._options = options

    def forward(self, inputs: Any) -> Any:
        """Return the recipe's outputs."""
        return self._options.forward(self.network, inputs)


class MeanLoss:
    """The mean of a recipe's losses.

    Where losses have counts, it is their sum over that of the counts.

    Args:
        options: the recipe.
        whole: whether samples come in one piece on one process. Pieces would each be divided by another count.
    """

    def __init__(self, options: Any, whole: bool) -> None:
        self._options, self._whole = options, whole

    def __call__(self, outputs: Any, targets: Any) -> Tensor:
        """Return the mean loss of some examples.

        Raises:
            ValueError: if the losses have counts and samples come in pieces.
        """
        found = self._options.losses(outputs, targets)
        if isinstance(found, tuple):
            if not self._whole:
                raise ValueError(
                    "lr_rule curvature cannot be used with losses that have counts, and accumulate or several processes"
                )
            values, counts = found
            mean: Tensor = values.sum(dtype=wide(values)) / counts.sum(dtype=wide(counts))
        else:
            mean = found.mean(dtype=wide(found))
        return mean


class Sample:
    """Training examples for a probe, by its number: the same ones whenever it is asked.

    Args:
        task: a `SupervisedTask`.
        count: how many examples, over all processes; all there are, if there are no more.
        generator: from which one integer is drawn, the same on every process.
    """

    def __init__(self, task: Any, count: int, generator: torch.Generator) -> None:
        self._task, self._count = task, min(count, len(task.train))
        self._key = int(torch.randint(2**62, (), generator=generator))
        options, processes = task.options, task.run.processes
        piece = options.batch_size // options.accumulate // processes
        self._size = self._count if options.accumulate == 1 else max(1, piece)

    def __call__(self, number: int) -> Iterator[tuple[Any, Any]]:
        """Yield this process's share of a sample, with inputs as the network wants them."""
        generator = Streams(self._key).generator("rows", number)
        rows = torch.randperm(len(self._task.train), generator=generator)[: self._count]
        for batch in self._task.probe_batches(rows, self._size):
            yield self._task.prepared_batch(batch)
