"""Sources of a sampler's noise: callables, so that it can be symmetric, masked or written down.

A noise is called with a tensor of the shape that is wanted, the number of the state among the coupled ones and the
generator, and returns standard noise. The generator is torch's own, or an `aleator.random.ItemGenerator`, whose numbers
belong to items and not to batches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from aleator.random import ItemGenerator

Generator: TypeAlias = torch.Generator | ItemGenerator
Noise: TypeAlias = Callable[[Tensor, int, Generator], Tensor]


def gaussian_noise(like: Tensor, state: int, generator: Generator) -> Tensor:
    """Return independent standard normal numbers of the shape, type and device of ``like``, whatever the state."""
    if isinstance(generator, ItemGenerator):
        return generator.normal(like)
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
