"""Counts of weights that are exactly zero, and of whole slices, which could be cut away."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from aleator.optim.proximal.group_lasso import other_dims
from aleator.optim.proximal.shards import whole_of


@dataclass(frozen=True)
class Sparsity:
    """Zeros of one parameter, or of several together.

    Attributes:
        zeros: entries that are exactly zero.
        entries: of all.
        zero_slices: slices along the first dimension with nothing else: units without inputs, filters.
        slices: of all; 1 for a scalar.
    """

    zeros: int
    entries: int
    zero_slices: int
    slices: int

    @property
    def share(self) -> float:
        """The share of entries that is zero; 0 of none."""
        return self.zeros / self.entries if self.entries else 0.0

    @property
    def share_of_slices(self) -> float:
        """The share of slices that is zero; 0 of none."""
        return self.zero_slices / self.slices if self.slices else 0.0

    def __add__(self, other: Sparsity) -> Sparsity:
        """Return both together."""
        return Sparsity(
            self.zeros + other.zeros,
            self.entries + other.entries,
            self.zero_slices + other.zero_slices,
            self.slices + other.slices,
        )


@torch.no_grad()
def sparsity(named_parameters: Iterable[tuple[str, Tensor]], dim: int = 0) -> dict[str, Sparsity]:
    """Return the zeros of each parameter by its name; the device is waited for once.

    Add them up with ``sum(found.values(), Sparsity(0, 0, 0, 0))``.

    Args:
        named_parameters: of a module; sharded ones are gathered.
        dim: whose slices are counted, not negative; of fewer dimensions, the last one.

    Example:
        >>> sparsity([("weight", torch.tensor([[0.0, 0.0], [0.0, 1.0]]))])["weight"]
        Sparsity(zeros=3, entries=4, zero_slices=1, slices=2)
    """
    names, counts, sizes = [], [], []
    for name, parameter in named_parameters:
        whole = whole_of(parameter.detach())
        zero = whole == 0
        dims = other_dims(whole, min(dim, whole.ndim - 1)) if whole.ndim else ()
        slices = zero.all(dim=dims) if dims else zero
        names.append(name)
        counts.append(torch.stack([zero.sum(), slices.sum()]))
        sizes.append((zero.numel(), slices.numel()))
    if not names:
        return {}
    read = torch.stack([count.to(counts[0].device) for count in counts]).tolist()
    return {
        name: Sparsity(zeros, entries, zero_slices, slices)
        for name, (zeros, zero_slices), (entries, slices) in zip(names, read, sizes, strict=True)
    }
