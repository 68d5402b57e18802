"""Rounds of a class that never hold an example twice and still use all examples equally often.

Cut from permutations joined end to end, a round of m examples that straddles two of them may hold an example twice, and
in a stratified round every class straddles by itself. Here the second permutation is mended: what its head shares with
the first one's tail changes places with later examples. With n examples of a class, m ≤ n/2, a head of h, and a tail of
t' that the next straddling round takes, those come from the middle,

    positions h … n − t' − 1,      of which at least  n − m − t' + c ≥ c  are not shared, c being the number shared,

so that tails stay what they are, and every round can be found without the rounds before. Where m > n/2 the n − m
examples that are left out are cut in this way, and the round is the others. Relabelling the examples relabels the
rounds, so each one is a uniform random subset; after any number of rounds the uses of two examples differ by at most 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Int64
from torch import Tensor

from aleator.data.permutation import FeistelPermutation

Order = Callable[[int], Tensor | FeistelPermutation]


class DistinctRounds:
    """The rounds of one class, range(n), each without repetition.

    Args:
        n: examples of the class.
        size: m, in [1, n].
        order: the permutation of a cycle.
    """

    def __init__(self, n: int, size: int, order: Order) -> None:
        self._n, self._size = n, size
        self._by_absence = 2 * size > n
        self._block = n - size if self._by_absence else size
        self._make_order = order
        self._orders: dict[int, Tensor | FeistelPermutation] = {}
        self._mended: dict[int, tuple[Tensor, Tensor]] = {}

    def size(self, round: int) -> int:
        """Return the number of examples of a round, m for all."""
        return self._size

    def whole(self, round: int) -> Int64[Tensor, " indices"]:
        """Return the examples of a round, in no order that means anything."""
        if not self._by_absence:
            return self._cut(round)
        there = torch.ones(self._n, dtype=torch.bool)
        if self._block:
            there[self._cut(round)] = False
        return there.nonzero().flatten()

    def _cut(self, round: int) -> Int64[Tensor, " block"]:
        """Return draws round·b … (round + 1)·b − 1 of the mended permutations, b being the block."""
        start, stop = round * self._block, (round + 1) * self._block
        cycles = range(start // self._n, -(-stop // self._n))
        bounds = [(k, max(start - k * self._n, 0), min(stop - k * self._n, self._n)) for k in cycles]
        return torch.cat([self._piece(*piece) for piece in bounds])

    def _piece(self, cycle: int, first: int, last: int) -> Int64[Tensor, " piece"]:
        piece = self._order(cycle)[first:last].to(torch.int64)
        positions, examples = self._repair(cycle)
        inside = (positions >= first) & (positions < last)
        return piece.index_copy(0, positions[inside] - first, examples[inside])

    def _repair(self, cycle: int) -> tuple[Int64[Tensor, " mended"], Int64[Tensor, " mended"]]:
        """Return the positions of a cycle that are mended, and the examples that stand there."""
        if cycle not in self._mended:
            _keep_few(self._mended)
            self._mended[cycle] = self._find_repair(cycle)
        return self._mended[cycle]

    def _find_repair(self, cycle: int) -> tuple[Int64[Tensor, " mended"], Int64[Tensor, " mended"]]:
        tail = cycle * self._n % self._block  # of the cycle before, which the straddling round holds
        nothing = torch.empty(0, dtype=torch.int64)
        if not tail:
            return nothing, nothing
        head, order = self._block - tail, self._order(cycle)
        before = self._order(cycle - 1)[self._n - tail : self._n].to(torch.int64)
        front = order[:head].to(torch.int64)
        shared = torch.isin(front, before).nonzero().flatten()
        # The middle is long enough, see above; of the first t + c of its examples at most t are shared.
        end = self._n - (cycle + 1) * self._n % self._block
        middle = order[head : min(end, head + tail + len(shared))].to(torch.int64)
        free = (~torch.isin(middle, before)).nonzero().flatten()[: len(shared)]
        return torch.cat([shared, head + free]), torch.cat([middle[free], front[shared]])

    def _order(self, cycle: int) -> Tensor | FeistelPermutation:
        if cycle not in self._orders:
            _keep_few(self._orders)
            self._orders[cycle] = self._make_order(cycle)
        return self._orders[cycle]


def _keep_few(kept: dict[int, Tensor | FeistelPermutation] | dict[int, tuple[Tensor, Tensor]]) -> None:
    if len(kept) == 3:  # a straddling round of two mended permutations looks at three
        del kept[next(iter(kept))]
