"""Examples in memory or in a data set, and batches of them from which a run can be resumed.

Data are tensors, which are the fast path: a batch is one copy of rows on the device. Or they are a map-style data set,
read by worker processes ahead of the step; then what a data set draws from torch's, NumPy's or Python's global
generator is decided by the seed and the batch's position alone, whichever worker reads it. The position of a run is
after the batches that it has consumed, whatever was prefetched.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map, tree_unflatten
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, default_collate

from aleator.data import VariableBatchSampler
from aleator.random import Streams

Collate = Callable[[list[Any]], tuple[Any, Any]]


@dataclass(frozen=True)
class Examples:
    """Inputs and targets, either tensors (or containers of tensors) of equal first dimension, or both in a data set.

    Attributes:
        inputs: None where there is a data set.
        targets: None where there is a data set.
        dataset: map-style; an item is one example, which ``collate`` joins with others to (inputs, targets).
        collate: of the data set.
        groups: the group of each example, as integers, where there are groups.
        group_names: their names.
    """

    inputs: Any = None
    targets: Any = None
    dataset: Any = None
    collate: Collate = default_collate
    groups: Tensor | None = None
    group_names: tuple[str, ...] = ()

    def __len__(self) -> int:
        """Return how many examples there are."""
        return len(self.dataset) if self.dataset is not None else length(self.targets)

    def take(self, indices: Tensor) -> Examples:
        """Return the examples at these indices."""
        own = self if self.groups is None else replace(self, groups=self.groups[indices.cpu()])
        if self.dataset is not None:
            return replace(own, dataset=Subset(self.dataset, indices.tolist()))
        return replace(own, inputs=rows(self.inputs, indices), targets=rows(self.targets, indices))

    def joined(self, others: Examples) -> Examples:
        """Return these examples and others behind them, both in memory or both in data sets."""
        if self.dataset is not None and others.dataset is not None:
            return replace(self, dataset=ConcatDataset([self.dataset, others.dataset]))
        if self.dataset is not None or others.dataset is not None:
            raise ValueError("examples in memory cannot be joined with those of a data set")
        parts = ((self.inputs, self.targets), (others.inputs, others.targets))
        inputs, targets = tree_map(lambda *leaves: torch.cat(leaves), *parts)
        return replace(self, inputs=inputs, targets=targets)

    def grouped(self, groups: Tensor, names: tuple[str, ...]) -> Examples:
        """Return the examples with their groups.

        Raises:
            ValueError: unless there is one of the groups for each example.
        """
        if len(groups) != len(self):
            raise ValueError(f"groups must have an entry for each of {len(self)} training examples, got {len(groups)}")
        if not 0 <= int(groups.min()) <= int(groups.max()) < len(names):
            found = f"{int(groups.min())} to {int(groups.max())}"
            raise ValueError(f"groups must be in [0, {len(names)}), a number for each name, got {found}")
        return replace(self, groups=groups.long().cpu(), group_names=tuple(names))

    def on(self, device: torch.device) -> Examples:
        """Return the examples on a device; a data set stays where it is."""
        moved = tree_map(lambda t: t.to(device) if isinstance(t, Tensor) else t, (self.inputs, self.targets))
        return replace(self, inputs=moved[0], targets=moved[1])


@dataclass(frozen=True)
class Batch:
    """This process's part of a batch.

    Attributes:
        inputs: of the model, on its device.
        targets: on the same device.
        indices: of the examples, among those kept for training.
        total: examples of all processes.
        step: how many batches came before.
    """

    inputs: Any
    targets: Any
    indices: Tensor
    total: int
    step: int

    def __len__(self) -> int:
        """Return how many examples there are on this process."""
        return len(self.indices)

    def with_examples(self, inputs: Any, targets: Any) -> Batch:
        """Return the batch with other inputs and targets."""
        return replace(self, inputs=inputs, targets=targets)

    def pieces(self, count: int) -> list[tuple[Any, Any, Tensor]]:
        """Return inputs, targets and positions in the batch of at most ``count`` pieces of nearly equal size."""
        cut = torch.arange(len(self)).chunk(count)
        if len(cut) == 1:
            return [(self.inputs, self.targets, cut[0])]
        bounds = [(int(piece[0]), int(piece[-1]) + 1) for piece in cut]
        return [(*_slices((self.inputs, self.targets), *b), piece) for b, piece in zip(bounds, cut, strict=True)]


def length(tree: Any) -> int:
    """Return the first dimension of a tensor, or of the tensors in a container.

    Raises:
        ValueError: if they differ, there is no tensor, or something else.
    """
    leaves = tree_flatten(tree)[0]
    for leaf in leaves:
        if not isinstance(leaf, Tensor) or not leaf.ndim:
            got = "one number" if isinstance(leaf, Tensor) else type(leaf).__name__
            raise ValueError(f"examples in memory must be tensors with a row for each example, got {got}")
    sizes = {len(leaf) for leaf in leaves}
    if len(sizes) != 1:
        raise ValueError(f"tensors of examples must have the same first dimension, got {sorted(sizes) or 'none'}")
    return sizes.pop()


def rows(tree: Any, indices: Tensor) -> Any:
    """Return the rows of every tensor in a container at these indices."""
    leaves, form = tree_flatten(tree)
    return tree_unflatten([leaf.index_select(0, indices.to(leaf.device)) for leaf in leaves], form)


def _slices(tree: Any, start: int, stop: int) -> Any:
    return tree_map(lambda t: t[start:stop] if isinstance(t, Tensor) else t, tree)


class Batches:
    """Batches of training examples, from the first that was not consumed.

    Args:
        examples: to train on. Tensors are on the device.
        sampler: has a position, ``state_dict`` and ``load_state_dict``.
        indices: yields this process's indices of the next batch, without end, and moves the sampler on.
        processes: that share a batch in equal parts.
        device: of the model.
        workers: processes that read a data set ahead; 0 reads in this one.
        key: decides what a data set draws.
    """

    def __init__(
        self,
        examples: Examples,
        sampler: Any,
        indices: Callable[[], Iterator[Tensor]],
        *,
        processes: int,
        device: torch.device,
        workers: int = 0,
        key: int = 0,
    ) -> None:
        self._examples, self._sampler, self._indices = examples, sampler, indices
        self._processes, self._device, self._workers, self._key = processes, device, workers, key
        self._asked: deque[tuple[Tensor, dict[str, Any]]] = deque()
        self._consumed: dict[str, Any] | None = None
        self.step = 0

    def __iter__(self) -> Iterator[Batch]:
        """Yield batches without end."""
        self._asked.clear()
        if self._consumed is not None:  # the sampler is ahead of it by what was prefetched
            self._sampler.load_state_dict(self._position())
        read = self._in_memory() if self._examples.dataset is None else self._stored()
        for inputs, targets, indices, state in read:
            step = self.step
            self.step, self._consumed = step + 1, state
            yield Batch(inputs, targets, indices, len(indices) * self._processes, step)

    def state_dict(self) -> dict[str, Any]:
        """Return the position: behind the last batch that was yielded."""
        return {"sampler": self._position(), "step": self.step}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue there."""
        self._sampler.load_state_dict(state["sampler"])
        self.step, self._consumed = state["step"], None

    def _position(self) -> dict[str, Any]:
        if self._consumed is None:
            return self._sampler.state_dict()  # type: ignore[no-any-return]
        if isinstance(self._sampler, VariableBatchSampler):  # the sizes of what is in the queue are decided, too
            return self._sampler.state_dict(batches=self.step)
        return self._consumed

    def _in_memory(self) -> Iterator[tuple[Any, Any, Tensor, None]]:
        for indices in self._indices():
            chosen = torch.as_tensor(indices)
            yield rows(self._examples.inputs, chosen), rows(self._examples.targets, chosen), chosen, None

    def _stored(self) -> Iterator[tuple[Any, Any, Tensor, dict[str, Any]]]:
        loader = _loader(_Readable(self._examples, self._key), self._ahead(), self._workers, self._device)
        for inputs, targets in loader:
            indices, state = self._asked.popleft()
            yield *_moved((inputs, targets), self._device), indices, state

    def _ahead(self) -> Iterator[tuple[int, list[int]]]:
        for step, indices in enumerate(self._indices(), self.step):
            chosen = torch.as_tensor(indices)
            self._asked.append((chosen, self._sampler.state_dict()))
            yield step, chosen.tolist()


def evaluation_batches(
    examples: Examples, size: int, *, rank: int, processes: int, device: torch.device, workers: int, key: int
) -> Iterator[tuple[Any, Any]]:
    """Yield this process's share of held-out examples as (inputs, targets): every ``processes``-th example."""
    if examples.dataset is None:
        mine = tree_map(lambda t: t[rank::processes], (examples.inputs, examples.targets))  # a view
        for start in range(0, length(mine), size):
            yield _slices(mine, start, start + size)
        return
    places = torch.arange(rank, len(examples), processes)
    asked = [(step, indices.tolist()) for step, indices in enumerate(torch.split(places, size)) if len(indices)]
    for inputs, targets in _loader(_Readable(examples, key), asked, workers, device):
        yield _moved((inputs, targets), device)


def first(examples: Examples) -> tuple[Any, Any]:
    """Return the first example of a data set, as a batch; no global generator is moved."""
    return _Readable(examples, 0)[0, [0]]  # type: ignore[no-any-return]


class _Readable(Dataset[Any]):
    """A data set by batches, whose random numbers depend on the example and the batch's position alone."""

    def __init__(self, examples: Examples, key: int) -> None:
        self._dataset, self._collate, self._key = examples.dataset, examples.collate, key
        whole = self._dataset
        while isinstance(whole, Subset):  # has __getitems__ whether or not the whole has
            whole = whole.dataset
        self._reads_batches = hasattr(whole, "__getitems__")

    def __getitem__(self, asked: tuple[int, Sequence[int]]) -> Any:
        step, indices = asked
        if self._reads_batches:
            with _drawing(self._key, step, int(indices[0])):
                return self._collated(self._dataset.__getitems__(list(indices)))
        items = []
        for index in indices:
            with _drawing(self._key, step, int(index)):
                items.append(self._dataset[index])
        return self._collated(items)

    def _collated(self, items: list[Any]) -> tuple[Any, Any]:
        found: Any = self._collate(items)
        if not isinstance(found, (tuple, list)) or len(found) != 2:
            got = f"{len(found)} things" if isinstance(found, (tuple, list)) else type(found).__name__
            raise ValueError(f"collate must return (inputs, targets), got {got}")
        return found[0], found[1]


@contextlib.contextmanager
def _drawing(key: int, step: int, index: int) -> Iterator[None]:
    """Let what torch, NumPy and Python draw globally come from a stream of this step and example."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    streams = Streams(key)
    seeds = streams.worker_seeds(2, "read", step, index)
    random.seed(seeds[0])
    np.random.seed(seeds[1] % 2**32)  # noqa: NPY002
    try:
        with streams.scope("read", step, index):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _loader(
    dataset: _Readable, asked: Iterable[tuple[int, list[int]]], workers: int, device: torch.device
) -> DataLoader[Any]:
    # Forked workers know a class that was read from a user's file; a run of a comparison would start others.
    forks = workers and "fork" in multiprocessing.get_all_start_methods()
    return DataLoader(
        dataset,
        batch_size=None,
        sampler=asked,
        num_workers=workers,
        generator=torch.Generator(),  # else torch's global one would be drawn from
        pin_memory=device.type == "cuda",
        multiprocessing_context="fork" if forks else None,
    )


def _moved(tree: Any, device: torch.device) -> Any:
    return tree_map(lambda t: t.to(device, non_blocking=True) if isinstance(t, Tensor) else t, tree)
