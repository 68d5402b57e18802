"""A step of MeZO, written from its paper (Malladi et al., arXiv 2305.17333, algorithm 1), for comparison.

Weights are moved in place to θ + ε z, to θ − ε z and back, and z is drawn again from its seed each of the four times.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def mezo_step(
    parameters: Sequence[Tensor],
    loss: Callable[[], Tensor],
    generator: torch.Generator,
    seed: int,
    lr: float,
    eps: float,
) -> float:
    """Take one step in place, and return the slope."""

    def move(scale: float) -> None:
        generator.manual_seed(seed)
        for parameter in parameters:
            z = torch.normal(0.0, 1.0, parameter.shape, generator=generator)
            parameter.add_(z, alpha=scale)

    with torch.no_grad():
        move(eps)
        plus = float(loss())
        move(-2 * eps)
        minus = float(loss())
        move(eps)
        slope = (plus - minus) / (2 * eps)
        move(-lr * slope)
    return slope
