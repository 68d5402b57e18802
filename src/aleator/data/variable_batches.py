"""Batches of a size that may change from one to the next, in the order of a run whose batches do not.

The rounds of a `RepeatedRandomSampler` are joined end to end to one sequence, and every batch is its next b examples,
with b asked for when the batch is drawn. So runs that differ in their batch sizes see the same examples in the same
order, every round shows each of its examples once, and all processes cut the same batch. A batch that straddles two
rounds may hold an example twice.

A loader that reads ahead draws batches before the steps on earlier ones are done. A new size therefore begins behind
what is in its queue: at the position after the queue. The sizes of batches that were drawn and not yet used are part of
the state, so that a resumed run uses the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Sampler

from aleator.data.repeated_random import RepeatedRandomSampler


class VariableBatchSampler(Sampler[list[int]]):
    """Batches of changing size, for ``DataLoader(batch_sampler=…)``; for data indexed by tensors see `batches`.

    It has no end unless ``total`` says so, and no length. An iterator that is given up is followed by the batch after
    the last one that was drawn; `load_state_dict` goes back to where a loop really was.

    Args:
        order: whose rounds are cut: which examples there are, in which order, and the processes that share a batch.
            Its own position is not moved. A number of examples stands for rounds of all of them.
        size: returns the examples of the next batch over all processes, such as
            ``lambda: controller.propose().global_size``. Every process has to get the same.
        seed: of the rounds, 0 by default; with a number of examples, as rank and world.
        rank: which of the processes this is.
        world: how many processes share a batch.
        total: examples after which there are no more batches, a multiple of the processes; the last batch is cut to
            what is left.

    Raises:
        ValueError: if rounds differ in size, an order comes with a seed or processes besides its own, or the total is
            no positive multiple of the processes; when a batch is drawn, if its size is no positive multiple of the
            processes, or larger than a round.

    Example:
        >>> sizes = iter([2, 3, 4])
        >>> order = RepeatedRandomSampler(8, ratio=1.0, seed=0)
        >>> [len(batch) for batch in VariableBatchSampler(order, lambda: next(sizes), total=8)]
        [2, 3, 3]
    """

    def __init__(
        self,
        order: RepeatedRandomSampler | int,
        size: Callable[[], int],
        seed: int | None = None,
        rank: int = 0,
        world: int = 1,
        *,
        total: int | None = None,
    ) -> None:
        if isinstance(order, int):
            order = RepeatedRandomSampler(order, ratio=1.0, seed=seed or 0, rank=rank, num_replicas=world)
        elif (seed, rank, world) != (None, 0, 1):
            raise ValueError(
                f"seed, rank and world must be those of the order, got seed={seed}, rank={rank} and world={world}"
            )
        if total is not None and (total < 1 or total % order.num_replicas):
            raise ValueError(f"total must be a positive multiple of the {order.num_replicas} processes, got {total}")
        self._round_size = order.round_size
        self.order, self.size, self.total = order, size, total
        self._next = 0  # the number of the batch that is drawn next
        self._known = 0  # of how many batches the size is known: those drawn, and those drawn before a state was saved
        self._runs: list[tuple[int, int]] = []  # (from which batch on, size)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield this process's indices of batch after batch."""
        for indices in self.batches():
            yield indices.tolist()

    def batches(self) -> Iterator[Int64[Tensor, " batch"]]:
        """Yield this process's indices of batch after batch, as LongTensors."""
        start = _examples_before(self._runs, self._next)
        while self.total is None or start < self.total:
            size = self._size_of(self._next, start)
            self._next += 1
            yield self._indices(start, start + size)
            start += size

    def state_dict(self, batches: int | None = None) -> dict[str, Any]:
        """Return the position, the sizes until there, and those of batches that were drawn ahead of it.

        Args:
            batches: how many batches were trained on, if that is fewer than were drawn because a loader asks ahead.

        Raises:
            ValueError: if these are more than were drawn.
        """
        used = self._next if batches is None else batches
        if not 0 <= used <= self._next:
            raise ValueError(f"batches must be between 0 and the {self._next} that were drawn, got {used}")
        runs = [list(run) for run in self._runs]
        return {"order": self.order.state_dict(), "batches": used, "drawn": self._known, "sizes": runs}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called: first with the batches that were drawn then, in their sizes.

        On another number of processes too, where batches that were drawn, and what is left of the total, can be shared
        out among them.

        Raises:
            ValueError: if they cannot, or the state is that of another order.
        """
        runs = [(first, size) for first, size in state["sizes"]]
        used, drawn, ranks = state["batches"], state["drawn"], self.order.num_replicas
        ends = [first for first, _ in runs[1:]] + [drawn]
        ahead = [size for (_, size), end in zip(runs, ends, strict=False) if end > used]
        left = [] if self.total is None else [self.total - _examples_before(runs, used)]
        if odd := [examples for examples in (*ahead, *left) if examples % ranks]:
            raise ValueError(f"{ranks} processes cannot share {odd[0]} examples of the saved state in equal parts")
        self.order.load_state_dict(state["order"])
        self._runs, self._next, self._known = runs, used, drawn

    def _size_of(self, batch: int, start: int) -> int:
        """Return the size of a batch: as it was drawn before, or as it is asked for now."""
        if batch < self._known:
            return next(size for first, size in reversed(self._runs) if first <= batch)
        size, ranks = int(self.size()), self.order.num_replicas
        if size < 1 or size % ranks or size > self._round_size:
            raise ValueError(
                f"size must be a positive multiple of the {ranks} processes and at most {self._round_size}, the "
                f"examples of a round, got {size}"
            )
        if self.total is not None:
            size = min(size, self.total - start)
        if not self._runs or self._runs[-1][1] != size:
            self._runs.append((batch, size))
        self._known = batch + 1
        return size

    def _indices(self, start: int, stop: int) -> Tensor:
        """Return this process's part of the examples at these positions of all rounds joined."""
        found = []
        for round in range(start // self._round_size, -(-stop // self._round_size)):
            begin = round * self._round_size
            piece = max(start - begin, 0), min(stop - begin, self._round_size)
            found.append(self.order.round_indices(round, *piece))
        whole = found[0] if len(found) == 1 else torch.cat(found)
        return whole[self.order.rank :: self.order.num_replicas]


def _examples_before(runs: list[tuple[int, int]], batch: int) -> int:
    """Return how many examples the batches before one have."""
    ends = [first for first, _ in runs[1:]] + [batch]
    pairs = zip(runs, ends, strict=False)
    return sum(size * (min(end, batch) - first) for (first, size), end in pairs if first < batch)
