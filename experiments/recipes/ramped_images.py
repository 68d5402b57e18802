"""Images classified with batches that double at equal shares of the examples: a ramp made by hand.

The rival of batches that grow by a test: its stages have to be chosen, and are here the ones between the two constant
batches that it is compared with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aleator.recipes.classify.options import Classify
from aleator.recipes.parts import Act, Part
from aleator.recipes.parts.part import Order, Sizes

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from aleator.recipes.parts.run import Run


@dataclass(frozen=True)
class Ramp(Part):
    """Let batches double."""

    ramp_to: int | None = None
    """The batch of the last stage; batch_size times a power of two."""

    def act(self, run: Run) -> Act | None:
        """Return the ramp."""
        return None if self.ramp_to is None else _RampAct(self.ramp_to, run)


class _RampAct(Act):
    def __init__(self, last: int, run: Run) -> None:
        self._run = run
        self._sizes: list[int] = [run.options.batch_size]
        while self._sizes[-1] < last:
            self._sizes.append(2 * self._sizes[-1])

    def sized(self, order: Order) -> Sizes:
        from aleator.data import VariableBatchSampler

        source: Any = order.sampler
        self._total = self._run.options.rounds * source.round_size
        sampler = VariableBatchSampler(source, self._size, total=self._total)
        return Sizes(sampler, sampler.batches, lambda examples: 1, self._total)

    def scheduled(self, optimizer: Optimizer) -> Any:
        from aleator.optim import SampleLR

        self._schedule = SampleLR(optimizer, 0, self._total, shape="constant")
        return self._schedule

    def before_step(self, batch: Any) -> None:
        self._schedule.ahead(batch.total)

    def _size(self) -> int:
        stage = int(self._schedule.examples) * len(self._sizes) // int(self._total)
        return self._sizes[min(stage, len(self._sizes) - 1)]


@dataclass(frozen=True)
class RampedImages(Ramp, Classify):
    """Classify images with constant, ramped or tested batches."""
