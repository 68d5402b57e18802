"""Repeated random sampling (RS2): every round trains on a new random subset of the data.

With N examples and a ratio r, round j trains on m = round(r·N) examples S_j, drawn without replacement *within* the
round. *Between* rounds there are two variants:

    with replacement      S_j = the first m of a permutation of its own: rounds are independent
    without replacement   S_j = draws j·m … (j+1)·m − 1 of a sequence of permutations of the N examples

Together with a learning-rate schedule of the reduced length (`BudgetPlan`, `aleator.optim.CosineToBudget`) this is the
baseline that every method of data selection has to beat. Everything here is random access: S_j is a function of a key
and j, so nothing but the position has to be saved, and all processes agree without talking to each other.

P. Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning", ICLR 2024,
arXiv 2305.18424.
"""

from __future__ import annotations

import functools
import hashlib
import operator
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils.data import Sampler

from aleator.data.budget import subset_size
from aleator.data.distinct_rounds import DistinctRounds
from aleator.data.permutation import FeistelPermutation, shuffled
from aleator.data.rounds import Rounds, StratifiedRounds, Tail, class_sizes, class_sizes_rounded, smallest_round
from aleator.random import derive_key

Order = Literal["auto", "shuffle", "feistel"]
Labels = Sequence[int] | Tensor | npt.NDArray[np.integer[Any]]

# Above it, order="auto" means Feistel. A shuffle of 2^21 takes 8 MB and, between rounds, up to 50 ms on a busy core.
LARGEST_SHUFFLE = 2**21

_CHUNK = 2**16  # indices made at a time, half a megabyte

_T = TypeVar("_T")


class RepeatedRandomSampler(Sampler[int]):
    """A sampler whose every round is a new random subset of the data (RS2).

    It goes where torch's ``RandomSampler`` goes; one pass is one round:

        loader = DataLoader(dataset, batch_size=128, sampler=sampler, drop_last=True, persistent_workers=True, …)

    Data in memory is served faster by `batches`. A pass that was iterated to its end is followed by the next round; one
    that was broken off is started again, unless a loader's worker processes had asked for all of it ahead.
    ``set_epoch`` selects a round.

    "With replacement" is meant *between* rounds. An example never occurs twice in a round, except, without
    ``stratified``, in a round of ``tail="carry"`` that straddles two permutations (one in N/m rounds, when m does not
    divide N). A stratified round never holds one twice, see `aleator.data.distinct_rounds`.

    Several processes: every rank gets ``num_replicas`` and its ``rank`` (the sampler does not look at
    ``torch.distributed``) and takes every ``num_replicas``-th index of the same round. Accelerate's ``prepare`` and the
    Hugging Face ``Trainer`` split the batches of a loader among the processes by themselves: leave ``num_replicas`` at
    1 there. A prepared loader counts passes from 0 and calls ``set_epoch`` with its count, so after `load_state_dict`
    call ``loader.set_epoch(sampler.round)``.

    Resuming: `state_dict` holds the position in the round, over all ranks. A loader with worker processes asks for
    indices ahead of the training loop, so there the loop has to say how many examples it has trained on:
    ``sampler.state_dict(position=batches_done * global_batch_size)``.

    Args:
        n: number of examples N. May be left out with ``labels``.
        ratio: r in (0, 1]; a round has m = round(r·N) examples. 1 gives plain shuffled epochs.
        labels: the class of each example, needed for ``stratified``.
        replacement_between_rounds: whether rounds are independent of each other.
        stratified: True divides m among the classes by largest remainders, see `class_sizes`; ``"per_class_round"``
            takes round(r·n_c) of each class as the authors do, which may be none. Each class has permutations of its
            own, and the ``tail`` applies to each; with ``"carry"`` the examples of a class are used equally often.
        min_per_class: least number of examples of each class in a round, with ``stratified``.
        tail: what happens when the permutation's length is no multiple of m, see `round_pieces`. Without effect when
            rounds are independent.
        seed: any non-negative integer, 0 by default.
        generator: instead of a seed; one integer is drawn from it, here and never again.
        num_replicas: number of processes that share each round; at most the examples of the smallest round.
        rank: this process, in [0, num_replicas).
        drop_last: whether ranks get equally many examples by leaving out the last ones of the round. Otherwise they may
            differ by one. Examples are never repeated to fill up.
        permutation: for tests: a function from the cycle's number to an order of range(N), in place of the random one.
        order: how permutations are made: ``"shuffle"`` in O(N) memory, ``"feistel"`` in O(1), or ``"auto"``, which is a
            shuffle up to N = 2^21 and Feistel above.

    Raises:
        ValueError: if a value is out of its range, or two cannot be used together.

    Example:
        >>> sampler = RepeatedRandomSampler(10, ratio=0.3, seed=1)
        >>> [len(list(sampler)) for _ in range(3)]
        [3, 3, 3]
    """

    round: int
    _resume_at: int  # where the next pass begins

    def __init__(
        self,
        n: int | None = None,
        *,
        ratio: float,
        labels: Labels | None = None,
        replacement_between_rounds: bool = False,
        stratified: Literal[False, True, "per_class_round"] = False,
        min_per_class: int = 0,
        tail: Tail = "carry",
        seed: int | None = None,
        generator: torch.Generator | None = None,
        num_replicas: int = 1,
        rank: int = 0,
        drop_last: bool = True,
        permutation: Callable[[int], Sequence[int] | Tensor] | None = None,
        order: Order = "auto",
    ) -> None:
        if stratified not in (False, True, "per_class_round"):
            raise ValueError(f'stratified must be False, True or "per_class_round", got {stratified!r}')
        if stratified and labels is None:
            raise ValueError(f"stratified cannot be used without labels, got {stratified!r}")
        if min_per_class and not stratified:
            raise ValueError(f"min_per_class cannot be used without stratified, got {min_per_class}")
        if tail not in ("carry", "drop", "wrap"):
            raise ValueError(f'tail must be "carry", "drop" or "wrap", got {tail!r}')
        if order not in ("auto", "shuffle", "feistel"):
            raise ValueError(f'order must be "auto", "shuffle" or "feistel", got {order!r}')
        if permutation is not None and (stratified or order != "auto"):
            raise ValueError("permutation cannot be used with stratified or order, whose random order it replaces")
        if seed is not None and generator is not None:
            raise ValueError(f"seed cannot be used with generator, got {seed}")
        if num_replicas < 1:
            raise ValueError(f"num_replicas must be at least 1, got {num_replicas}")
        if not 0 <= rank < num_replicas:
            raise ValueError(f"rank must be in [0, {num_replicas}), got {rank}")
        self.n = _population_size(n, labels)
        self.ratio = ratio
        self.num_replicas = num_replicas
        self.rank = rank
        self.drop_last = drop_last
        self._replacement, self._tail = replacement_between_rounds, tail
        self._permutation, self._order_kind = permutation, order
        self._members: Sequence[Tensor] | None = None
        self._sizes = [subset_size(self.n, ratio)]
        if stratified and labels is not None:
            class_of = torch.unique(torch.as_tensor(labels), return_inverse=True)[1]
            self._members = class_of.argsort(stable=True).split(class_of.bincount().tolist())
            counts = [len(members) for members in self._members]
            divide = class_sizes if stratified is True else class_sizes_rounded
            self._sizes = divide(counts, ratio, min_per_class)
        self._identity = {
            "n": self.n,
            "ratio": ratio,
            "replacement_between_rounds": replacement_between_rounds,
            "stratified": str(stratified),
            "min_per_class": min_per_class,
            "tail": tail,
            "order": order,
            "classes": "" if self._members is None else _digest(self._members),
        }
        smallest = sum(smallest_round(n, size, replacement_between_rounds, tail) for n, size in self._populations())
        if num_replicas > smallest:
            raise ValueError(
                f"num_replicas must be at most {smallest}, the examples of the smallest round, got {num_replicas}"
            )
        if generator is None:
            key = derive_key(0 if seed is None else seed, "rs2")
        else:
            key = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        self._set_key(key)
        self._go_to(0, 0)

    @property
    def position(self) -> int:
        """Examples of the present round that were handed out, over all ranks."""
        dealt = self._begin + self._unit * (self._count - operator.length_hint(self._pending))
        return min(dealt, self._rounds.size(self.round))

    @property
    def round_size(self) -> int:
        """Examples of every round, over all ranks.

        Raises:
            ValueError: if rounds differ in size, as the last of a permutation does with ``tail="wrap"``.
        """
        smallest = sum(smallest_round(n, size, self._replacement, self._tail) for n, size in self._populations())
        if smallest != sum(self._sizes):
            raise ValueError(f"tail must not be 'wrap' where all rounds have to be of one size, got {self._tail!r}")
        return smallest

    def round_indices(self, round: int, start: int = 0, stop: int | None = None) -> Int64[Tensor, " indices"]:
        """Return the indices of a round, over all ranks, or the slice of them at positions ``start`` to ``stop``.

        Any round at any time; the position is not touched. With Feistel permutations, and without stratification, time
        and memory grow with the slice alone.

        Raises:
            ValueError: if the round is negative or the slice is not within it.
        """
        size = self._rounds.size(_checked_round(round))
        stop = size if stop is None else stop
        if not 0 <= start <= stop <= size:
            raise ValueError(f"start and stop must be in order within the round's {size} examples, got {start}, {stop}")
        return self._rounds.slice(round, start, stop)

    def __len__(self) -> int:
        """Return the number of this rank's indices in the whole of the round that comes or is under way."""
        return self._share(self._rounds.size(self._next_round()))

    def __iter__(self) -> Iterator[int]:
        """Yield this rank's indices of the round, from the position on."""
        begin, size = self._enter_round()
        end = begin + self._usable(size - begin)
        stride = _CHUNK * self.num_replicas
        for start in range(begin, end, stride):
            indices = self._rank_indices(start, min(start + stride, end))
            yield from self._dealt_from(start, indices.tolist(), self.num_replicas)
        self._dealt_from(size, (), 0)

    def batches(self, batch_size: int, drop_last: bool = True) -> Batches:
        """Return the round in batches, as LongTensors: the fast path for data that is indexed by tensors.

        The result can be iterated again and again, each time for the next round, as the sampler itself. The k-th global
        batch is S_j[k·b : (k+1)·b] whatever the number of ranks, and a rank gets every ``num_replicas``-th index of it.
        A batch is the caller's to keep and to change.

        Args:
            batch_size: examples of a global batch, b; a multiple of ``num_replicas``.
            drop_last: whether the round's last short batch is left out. It is the ``drop_last`` of a loader; the
                sampler's own decides whether a short batch is cut to equal parts.

        Raises:
            ValueError: if the batch size is no positive multiple of ``num_replicas``, or larger than a round whose
                short batch is dropped.
        """
        if batch_size < 1 or batch_size % self.num_replicas:
            raise ValueError(
                f"batch_size must be a positive multiple of num_replicas, {self.num_replicas}, got {batch_size}"
            )
        size = sum(self._sizes)
        if drop_last and batch_size > size:
            raise ValueError(
                f"batch_size must be at most {size}, the examples of a round, when the last short batch is dropped, "
                f"got {batch_size}"
            )
        return Batches(self, batch_size, drop_last)

    def _iterate_batches(self, batch_size: int, drop_last: bool) -> Iterator[Int64[Tensor, " batch"]]:
        begin, size = self._enter_round()
        end = size - (size - begin) % batch_size
        per_rank = batch_size // self.num_replicas
        stride = max(_CHUNK // per_rank, 1) * batch_size
        for start in range(begin, end, stride):
            indices = self._rank_indices(start, min(start + stride, end))
            yield from self._dealt_from(start, indices.view(-1, per_rank).unbind(), batch_size)
        short = size - end
        if not drop_last and self._share(short):
            yield from self._dealt_from(end, (self._rank_indices(end, end + self._usable(short)),), short)
        self._dealt_from(size, (), 0)

    def set_epoch(self, epoch: int) -> None:
        """Select the round, any one, that the next pass runs; loaders and trainers call it so.

        It starts at the beginning, unless a state of this round was just loaded: a resumed loop may call it as well.

        Raises:
            ValueError: if the round is negative.
        """
        self._go_to(_checked_round(epoch), self._resume_at if epoch == self.round else 0)

    def state_dict(self, position: int | None = None) -> dict[str, Any]:
        """Return the key, the round, the position and what the sampler was made with: integers, floats and strings.

        Args:
            position: how many examples of the round were trained on, over all ranks, if that is fewer than were handed
                out because a loader asks ahead.

        Raises:
            ValueError: if the position is not within the round.
        """
        size = self._rounds.size(self.round)
        if position is not None and not 0 <= position <= size:
            raise ValueError(f"position must be between 0 and the round's {size} examples, got {position}")
        position = self.position if position is None else position
        done = position >= size
        return {
            **self._identity,
            "key": self.key,
            "round": self.round + done,
            "position": 0 if done else position,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called, with its key, on any number of ranks.

        Raises:
            ValueError: if the state was saved by a sampler made with other values, or its round or position is none of
                this sampler's.
        """
        for name, own in self._identity.items():
            if state.get(name) != own:
                raise ValueError(f"the saved sampler has {name}={state.get(name)!r}, this one has {name}={own!r}")
        round, position = _checked_round(operator.index(state["round"])), operator.index(state["position"])
        size = self._rounds.size(round)
        if not 0 <= position < size:
            raise ValueError(f"position must be in [0, {size}), the examples of round {round}, got {position}")
        self._set_key(state["key"])
        self._go_to(round, position)

    def _set_key(self, key: int) -> None:
        self.key = key
        if self._members is None:
            self._rounds: Rounds | StratifiedRounds = self._population(self.n, self._sizes[0], key)
            return
        classes = [c for c, size in enumerate(self._sizes) if size]
        members = [self._members[c] for c in classes]
        rounds = [
            self._class_rounds(len(self._members[c]), self._sizes[c], derive_key(key, "class", c)) for c in classes
        ]
        self._rounds = StratifiedRounds(members, rounds, derive_key(key, "union"))

    def _population(self, n: int, size: int, key: int) -> Rounds:
        return Rounds(n, size, self._replacement, self._tail, functools.partial(self._order, n, key))

    def _class_rounds(self, n: int, size: int, key: int) -> Rounds | DistinctRounds:
        if self._tail == "carry" and not self._replacement:
            return DistinctRounds(n, size, functools.partial(self._order, n, key))
        return self._population(n, size, key)

    def _populations(self) -> Iterator[tuple[int, int]]:
        """Yield the numbers of examples of each population, in all and in a round, where it has any there."""
        lengths = [self.n] if self._members is None else map(len, self._members)
        yield from ((n, size) for n, size in zip(lengths, self._sizes, strict=True) if size)

    def _order(self, n: int, key: int, cycle: int) -> Tensor | FeistelPermutation:
        if self._permutation is not None:
            return _checked_order(self._permutation(cycle), n)
        if self._order_kind == "feistel" or (self._order_kind == "auto" and n > LARGEST_SHUFFLE):
            return FeistelPermutation(n, key, cycle)
        return shuffled(n, key, cycle)

    def _next_round(self) -> int:
        return self.round + (self.position >= self._rounds.size(self.round))

    def _enter_round(self) -> tuple[int, int]:
        """Begin a pass: return the position it starts from, 0 unless a state was loaded, and the round's size."""
        begin = self._resume_at
        self._go_to(self._next_round(), begin)
        self._resume_at = 0
        return begin, self._rounds.size(self.round)

    def _go_to(self, round: int, position: int) -> None:
        self.round, self._resume_at = round, position
        self._dealt_from(position, (), 0)

    def _usable(self, count: int) -> int:
        """Of ``count`` examples in a row, how many are shared out among the ranks."""
        return count - count % self.num_replicas if self.drop_last else count

    def _share(self, count: int) -> int:
        """Of ``count`` examples in a row, how many are this rank's."""
        return len(range(self.rank, self._usable(count), self.num_replicas))

    def _count_batches(self, batch_size: int, drop_last: bool) -> int:
        full, short = divmod(self._rounds.size(self._next_round()), batch_size)
        return full + (not drop_last and self._share(short) > 0)

    def _rank_indices(self, start: int, stop: int) -> Int64[Tensor, " indices"]:
        return self._rounds.slice(self.round, start + self.rank, stop, self.num_replicas)

    def _dealt_from(self, begin: int, items: Sequence[_T], unit: int) -> Iterator[_T]:
        """Return an iterator over items of ``unit`` examples each that keeps the position up to date.

        The position is read off the iterator's own count of what is left, so that nothing is computed per item.
        """
        pending = iter(items)
        self._begin, self._count, self._unit, self._pending = begin, len(items), unit, pending
        return pending


class Batches:
    """The rounds of a sampler in batches, see `RepeatedRandomSampler.batches`; ``len`` is for a whole round."""

    def __init__(self, sampler: RepeatedRandomSampler, batch_size: int, drop_last: bool) -> None:
        self._sampler, self._batch_size, self._drop_last = sampler, batch_size, drop_last

    def __len__(self) -> int:
        return self._sampler._count_batches(self._batch_size, self._drop_last)

    def __iter__(self) -> Iterator[Int64[Tensor, " batch"]]:
        return self._sampler._iterate_batches(self._batch_size, self._drop_last)


def _population_size(n: int | None, labels: Labels | None) -> int:
    if labels is None:
        if n is None:
            raise ValueError("n or labels must be given, got neither")
        return n
    classes = torch.as_tensor(labels)
    if classes.ndim != 1 or classes.is_floating_point():
        raise ValueError(f"labels must be one integer per example, got {classes.dtype} of shape {tuple(classes.shape)}")
    if n is not None and n != len(classes):
        raise ValueError(f"labels must have one entry for each of the {n} examples, got {len(classes)}")
    return len(classes)


def _checked_round(round: int) -> int:
    if round < 0:
        raise ValueError(f"round must not be negative, got {round}")
    return round


def _checked_order(order: Sequence[int] | Tensor, n: int) -> Tensor:
    tensor = torch.as_tensor(order)
    if not torch.equal(tensor.sort().values, torch.arange(n)):
        raise ValueError(f"permutation must return an order of range({n}), got {order}")
    return tensor


def _digest(members: Sequence[Tensor]) -> str:
    digest = hashlib.sha256()
    for indices in members:
        digest.update(len(indices).to_bytes(8, "little"))
        digest.update(indices.numpy().tobytes())
    return digest.hexdigest()
