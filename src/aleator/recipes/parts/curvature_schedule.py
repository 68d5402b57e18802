"""The learned rate's schedule of a supervised task, and the task as the curvature sees it.

That is outputs, their mean loss, and samples of training examples, each looked at aside from the training step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aleator.optim import CurvatureLRScheduler
from aleator.random import Streams
from aleator.recipes.parts.losses import wide
from aleator.recipes.parts.run import Run

MOST_EXAMPLES = 4096
FEWEST_STEPS = 20


class LaterSchedule(LRScheduler):
    """A `CurvatureLRScheduler` that is made when the task is there, after its schedule has to be.

    Attributes:
        learned: the schedule, once it has begun.
    """

    learned: CurvatureLRScheduler

    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def begin(self, task: Any, run: Run, factor: Callable[[int], float], hold: Literal["max", "none"]) -> None:
        """Make the schedule, with its first probe.

        Args:
            task: a `SupervisedTask`, with its model and training examples.
            run: of the task.
            factor: of the schedule that the options name.
            hold: as of `CurvatureLRScheduler`.
        """
        options = run.options
        self._task = task
        generator = run.generator("curvature")
        with task.aside("curvature") as model:
            self.learned = CurvatureLRScheduler(
                self.optimizer,
                Called(model, options),
                MeanLoss(options, whole=options.accumulate == 1 and run.processes == 1),
                Sample(task, min(4 * options.batch_size, MOST_EXAMPLES), generator),
                every=max(FEWEST_STEPS, len(task.train) // options.batch_size),
                hold=hold,
                generator=generator,
                factor=factor,
                group=dist.group.WORLD if run.processes > 1 else None,
            )

    def step(self, epoch: int | None = None) -> None:
        """Count a step; probe if it is time."""
        if self.learned.due:
            with self._task.aside("curvature"):
                self.learned.step()
        else:
            self.learned.step()

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group."""
        return self.learned.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """Return what the learner remembers."""
        return self.learned.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.learned.load_state_dict(state_dict)


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
            yield self._task.prepared_examples(*batch)
