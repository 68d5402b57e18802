"""The content of rounds of repeated random sampling: blocks of permutations, whole or class by class.

A population of n examples has a sequence of permutations, its *cycles*. A round of m examples is made of pieces of them

    S_j = draws j·m … (j+1)·m − 1 of the cycles joined end to end

or, with another treatment of the tail, of the pieces that `round_pieces` lists. A stratified round is the union of the
rounds of its classes, shuffled, and holds no example twice, see `aleator.data.distinct_rounds`. Nothing here has a
position: every round can be asked for at any time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal

import torch
from jaxtyping import Int64
from torch import Tensor

from aleator.data.budget import subset_size
from aleator.data.distinct_rounds import DistinctRounds
from aleator.data.permutation import FeistelPermutation, shuffled
from aleator.data.shares import meant

Tail = Literal["carry", "drop", "wrap"]


def round_pieces(
    round: int, n: int, size: int, replacement_between_rounds: bool, tail: Tail
) -> list[tuple[int, int, int]]:
    """Return what a round consists of: pieces ``(cycle, start, stop)`` of the permutations number ``cycle``.

    ``"carry"`` joins the permutations end to end and cuts blocks of ``size``; a block that straddles two of them may
    hold an example twice. ``"drop"`` leaves out what a permutation has beyond its last whole block. ``"wrap"`` fills
    the last block from the head of the same permutation and, as the authors' code does (it counts modulo n + 1), takes
    one example too few: n = 10, size = 3 gives rounds of 3, 3, 3, 2.
    """
    if replacement_between_rounds:
        return [(round, 0, size)]
    if tail == "drop":
        cycle, block = divmod(round, n // size)
        return [(cycle, block * size, (block + 1) * size)]
    if tail == "wrap":
        cycle, block = divmod(round, -(-n // size))
        start, stop = block * size, (block + 1) * size
        return [(cycle, start, stop)] if stop <= n else [(cycle, start, n), (cycle, 0, stop - n - 1)]
    start, stop = round * size, (round + 1) * size
    cycles = range(start // n, -(-stop // n))
    return [(cycle, max(start - cycle * n, 0), min(stop - cycle * n, n)) for cycle in cycles]


def class_sizes(class_counts: Sequence[int], ratio: float, min_per_class: int = 0) -> list[int]:
    """Apportion m = round(ratio·N) examples to classes by the method of largest remainders.

    A class of n_c examples gets floor(ratio·n_c); the examples left over go one each to the largest fractional parts,
    ties to the lower class. Classes that would get fewer than ``min_per_class`` get that many, and the rest is
    apportioned to the others in proportion to their sizes.

    Args:
        class_counts: examples of each class, positive.
        ratio: in (0, 1].
        min_per_class: not negative, at most the smallest class.

    Raises:
        ValueError: if a value is out of its range or the minima exceed m.
    """
    total = subset_size(sum(class_counts), ratio)
    _check_min_per_class(class_counts, min_per_class)
    if min_per_class * len(class_counts) > total:
        raise ValueError(
            f"min_per_class must be at most {total // len(class_counts)}, a round having {total} examples for "
            f"{len(class_counts)} classes, got {min_per_class}"
        )
    sizes = _largest_remainders([meant(ratio) * count for count in class_counts], total)
    raised: set[int] = set()
    while short := {c for c, size in enumerate(sizes) if size < min_per_class}:
        raised |= short
        rest = total - min_per_class * len(raised)
        others = [c for c in range(len(sizes)) if c not in raised]
        population = sum(class_counts[c] for c in others)
        shares = _largest_remainders([Fraction(rest * class_counts[c], population) for c in others], rest)
        sizes = [min_per_class] * len(sizes)
        for c, share in zip(others, shares, strict=True):
            sizes[c] = share
    return sizes


def class_sizes_rounded(class_counts: Sequence[int], ratio: float, min_per_class: int = 0) -> list[int]:
    """Return round(ratio·n_c) for each class, at least ``min_per_class``: the authors' counts.

    Halves are rounded to even, so a class with ratio·n_c ≤ 0.5 gets none, and the sum may differ from round(ratio·N).

    Raises:
        ValueError: if ``min_per_class`` is out of its range or no class gets any.
    """
    subset_size(sum(class_counts), ratio)
    _check_min_per_class(class_counts, min_per_class)
    sizes = [max(round(ratio * count), min_per_class) for count in class_counts]
    if not any(sizes):
        raise ValueError(f"ratio must select at least one example of some class, got {ratio}")
    return sizes


def _largest_remainders(quotas: list[Fraction], total: int) -> list[int]:
    sizes = [int(quota) for quota in quotas]
    by_remainder = sorted(range(len(quotas)), key=lambda c: (sizes[c] - quotas[c], c))
    for c in by_remainder[: total - sum(sizes)]:
        sizes[c] += 1
    return sizes


def _check_min_per_class(class_counts: Sequence[int], min_per_class: int) -> None:
    smallest = min(class_counts)
    if not 0 <= min_per_class <= smallest:
        raise ValueError(f"min_per_class must be in [0, {smallest}], the smallest class's size, got {min_per_class}")


def smallest_round(n: int, size: int, replacement_between_rounds: bool, tail: Tail) -> int:
    """Return the number of examples of the smallest of the rounds, see `round_pieces`."""
    return size - 1 if tail == "wrap" and not replacement_between_rounds and n % size else size


class Rounds:
    """The rounds of one population, range(n)."""

    def __init__(
        self, n: int, size: int, replacement: bool, tail: Tail, order: Callable[[int], Tensor | FeistelPermutation]
    ) -> None:
        self._n, self._size, self._replacement, self._tail = n, size, replacement, tail
        self._make_order = order
        self._orders: dict[int, Tensor | FeistelPermutation] = {}

    def size(self, round: int) -> int:
        """Return the number of examples of a round."""
        return sum(stop - start for _, start, stop in self._pieces(round))

    def whole(self, round: int) -> Int64[Tensor, " indices"]:
        """Return a fresh tensor of all indices of the round."""
        return self.slice(round, 0, self.size(round))

    def slice(self, round: int, start: int, stop: int, step: int = 1) -> Int64[Tensor, " indices"]:
        """Return a fresh tensor of the indices at positions range(start, stop, step) of the round."""
        result = torch.empty(len(range(start, stop, step)), dtype=torch.int64)
        filled = offset = 0
        for cycle, first, last in self._pieces(round):
            begin = start if start >= offset else offset + (start - offset) % step
            end = min(stop, offset + last - first)
            if begin < end:
                part = self._order(cycle)[first + begin - offset : first + end - offset : step]
                result[filled : filled + len(part)] = part
                filled += len(part)
            offset += last - first
        return result

    def _pieces(self, round: int) -> list[tuple[int, int, int]]:
        return round_pieces(round, self._n, self._size, self._replacement, self._tail)

    def _order(self, cycle: int) -> Tensor | FeistelPermutation:
        if cycle not in self._orders:
            if len(self._orders) == 2:  # as many as a round may need at once
                del self._orders[next(iter(self._orders))]
            self._orders[cycle] = self._make_order(cycle)
        return self._orders[cycle]


class StratifiedRounds:
    """The rounds of a population of classes: the union of the classes' rounds, shuffled."""

    def __init__(self, members: Sequence[Tensor], rounds: Sequence[Rounds | DistinctRounds], key: int) -> None:
        self._members, self._rounds, self._key = members, rounds, key
        self._latest = (-1, torch.empty(0, dtype=torch.int64))

    def size(self, round: int) -> int:
        """Return the number of examples of a round."""
        return sum(rounds.size(round) for rounds in self._rounds)

    def slice(self, round: int, start: int, stop: int, step: int = 1) -> Int64[Tensor, " indices"]:
        """Return a fresh tensor of the indices at positions range(start, stop, step) of the round."""
        if self._latest[0] != round:
            classes = zip(self._members, self._rounds, strict=True)
            union = torch.cat([members[rounds.whole(round)] for members, rounds in classes])
            self._latest = (round, union[shuffled(len(union), self._key, round)])
        return self._latest[1][start:stop:step].clone()
