"""Two different answers to the same question, drawn anew in every epoch.

An item has n ≥ 2 responses by different annotators, as a list or as counts. In an epoch it gives one ordered pair,

    (j, k) uniform over the n(n − 1) ordered pairs of different annotators,

so a response is never paired with itself, and over epochs both orders of every pair are seen equally often. The pair is
a function of (key, epoch, item): it depends neither on the batch that an item is in, nor on the process, nor on which
other items there are. Items are split as a whole, since a pair in training and another of the same item in the test
would make the model look surer than it is.

D. D. Johnson et al., arXiv 2402.08733, section 5 (CIFAR-10H).
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from torch import Tensor

from aleator.data.permutation import shuffled
from aleator.random import ItemGenerator, derive_key

Responses = Tensor | npt.NDArray[Any] | Sequence[Sequence[int]] | Sequence[Tensor]


class PairSampler:
    """Pairs of responses of a set of items.

    Args:
        responses: counts of shape [items, K], a tensor or an array of how often each label was given; or for each item
            the list of its labels.
        seed: any non-negative integer, 0 by default.
        num_labels: K, where it is more than the largest label says; with counts it is their second dimension.
        generator: instead of a seed; one integer is drawn from it, here and never again.

    Attributes:
        items: int64 of shape [items], the number of each item among those that the responses were given for. It is kept
            by `take` and `split`, and serves `aleator.stats.conservative_factor` to tell what was trained on.
        num_labels: K.

    Raises:
        ValueError: if an item has fewer than two responses, a count is negative or not whole, or a label out of range.

    Warns:
        UserWarning: if almost all pairs agree (more than 99.9 % over at least 1,000 items), as they do where each
            annotator's label is there twice.

    Example:
        >>> sampler = PairSampler([[0, 0, 1], [2, 2], [1, 0]], seed=1)
        >>> y1, y2 = sampler.pairs(epoch=0)
        >>> int(y1[1]), int(y2[1])
        (2, 2)
    """

    def __init__(
        self,
        responses: Responses,
        seed: int | None = None,
        *,
        num_labels: int | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        if seed is not None and generator is not None:
            raise ValueError(f"seed cannot be used with generator, got {seed}")
        if isinstance(responses, Tensor | np.ndarray):
            responses = torch.as_tensor(responses)
            self._labels, sizes, self.num_labels = _from_counts(responses, num_labels)
        else:
            self._labels, sizes, self.num_labels = _from_lists(responses, num_labels)
        self._sizes, self._starts = sizes, sizes.cumsum(0) - sizes
        self.items = torch.arange(len(sizes))
        if generator is None:
            self._key = derive_key(0 if seed is None else seed, "pairs")
        else:
            self._key = int(torch.randint(2**63 - 1, (), generator=generator, device=generator.device))
        agreement = self.agreement()
        if len(sizes) >= 1000 and agreement > 0.999:
            warnings.warn(
                f"the responses of an item agree in {100 * agreement:.2f} % of the pairs: is each annotator's label "
                "there twice?",
                stacklevel=2,
            )

    def __len__(self) -> int:
        """Return the number of items."""
        return len(self.items)

    def pairs(
        self, epoch: int, rows: Int64[Tensor, " rows"] | None = None
    ) -> tuple[Int64[Tensor, " rows"], Int64[Tensor, " rows"]]:
        """Return the first and the second responses of an epoch.

        Args:
            epoch: not negative.
            rows: of which items, in [0, number of items); all by default.

        Raises:
            ValueError: if the epoch is negative or a row is out of range.
        """
        if epoch < 0:
            raise ValueError(f"epoch must not be negative, got {epoch}")
        if rows is None:
            rows = torch.arange(len(self.items))
        wrong = rows[(rows < 0) | (rows >= len(self.items))]
        if len(wrong):
            raise ValueError(f"rows must be in [0, {len(self.items)}), got {int(wrong[0])}")
        sizes, starts = self._sizes[rows], self._starts[rows]
        generator = ItemGenerator(self._key, self.items[rows])
        generator.draws = 2 * epoch
        first, other = generator.below(sizes), generator.below(sizes - 1)
        second = other + (other >= first)  # all but the first
        return self._labels[starts + first], self._labels[starts + second]

    def counts(self) -> Int64[Tensor, "items K"]:
        """Return how often each label was given."""
        place = torch.repeat_interleave(torch.arange(len(self._sizes)), self._sizes)
        flat = torch.bincount(place * self.num_labels + self._labels, minlength=len(self._sizes) * self.num_labels)
        return flat.view(len(self._sizes), self.num_labels)

    def agreement(self) -> float:
        """Return the share of equal labels among all pairs of different annotators, the mean over items."""
        c, n = self.counts().double(), self._sizes.double()
        return float(((c * (c - 1)).sum(1) / (n * (n - 1))).mean())

    def take(self, rows: Int64[Tensor, " rows"]) -> PairSampler:
        """Return the sampler of some of the items; an item has the same pairs there as here.

        Raises:
            ValueError: if a row is out of range.
        """
        wrong = rows[(rows < 0) | (rows >= len(self.items))]
        if len(wrong):
            raise ValueError(f"rows must be in [0, {len(self.items)}), got {int(wrong[0])}")
        part = object.__new__(PairSampler)
        sizes = self._sizes[rows]
        part.items, part.num_labels, part._key = self.items[rows], self.num_labels, self._key
        part._sizes, part._starts = sizes, sizes.cumsum(0) - sizes
        within = torch.arange(int(sizes.sum())) - torch.repeat_interleave(part._starts, sizes)
        part._labels = self._labels[torch.repeat_interleave(self._starts[rows], sizes) + within]
        return part

    def split(self, *sizes: int, seed: int = 0) -> tuple[PairSampler, ...]:
        """Return disjoint parts of ``sizes`` items each, all pairs of an item in one of them.

        Args:
            sizes: of the parts, positive, together at most the number of items.
            seed: any non-negative integer; the same for the same items gives the same parts.

        Raises:
            ValueError: if a size is not positive, or there are too few items.
        """
        if not sizes or min(sizes) < 1 or sum(sizes) > len(self.items):
            raise ValueError(f"sizes must be positive and at most {len(self.items)} in all, got {sizes}")
        order = shuffled(len(self.items), derive_key(seed, "pairs", "split"), 0).long()
        return tuple(self.take(rows) for rows in torch.split(order[: sum(sizes)], list(sizes)))


def _from_counts(counts: Tensor, num_labels: int | None) -> tuple[Tensor, Tensor, int]:
    if counts.ndim != 2:
        raise ValueError(f"counts must have the shape [items, labels], got {tuple(counts.shape)}")
    if num_labels not in (None, counts.shape[1]):
        raise ValueError(f"num_labels must be {counts.shape[1]}, as many as there are columns, got {num_labels}")
    wrong = counts[~((counts >= 0) & (counts == counts.round()))] if counts.is_floating_point() else counts[counts < 0]
    if len(wrong):
        raise ValueError(f"counts must be whole numbers that are not negative, got {wrong[0].item():g}")
    whole = counts.long().cpu()
    sizes = whole.sum(1)
    _check_sizes(sizes)
    labels = torch.repeat_interleave(torch.arange(whole.shape[1]).expand_as(whole).flatten(), whole.flatten())
    return labels, sizes, whole.shape[1]


def _from_lists(
    lists: Sequence[Sequence[int]] | Sequence[Tensor], num_labels: int | None
) -> tuple[Tensor, Tensor, int]:
    rows = [torch.as_tensor(row) for row in lists]
    sizes = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    _check_sizes(sizes)
    for row in rows:
        if row.ndim != 1 or row.is_floating_point() or row.dtype == torch.bool:
            raise ValueError(f"responses must be whole numbers, a list for each item, got {row.dtype}")
    labels = torch.cat(rows).long()
    known = int(labels.max()) + 1 if num_labels is None else num_labels
    wrong = labels[(labels < 0) | (labels >= known)]
    if len(wrong):
        raise ValueError(f"responses must be in [0, {known}), got {int(wrong[0])}")
    return labels, sizes, known


def _check_sizes(sizes: Tensor) -> None:
    if len(sizes) == 0:
        raise ValueError("responses must be of at least one item, got none")
    few = (sizes < 2).nonzero()
    if len(few):
        item = int(few[0])
        raise ValueError(
            f"responses must be at least two for each item, by different annotators, got {int(sizes[item])} for item "
            f"{item}"
        )
