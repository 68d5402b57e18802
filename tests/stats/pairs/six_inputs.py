"""Six inputs with known answers, of which a model sees three groups: everything about them is an exact sum."""

from __future__ import annotations

import torch
from torch import Tensor

from aleator.nn import PairDistribution

ROWS = torch.tensor(
    [[0.9, 0.1, 0], [0.5, 0, 0.5], [1, 0, 0], [0, 1, 0], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]], dtype=torch.float64
)
WEIGHTS = torch.tensor([1, 1, 0.5, 0.5, 0.5, 0.5], dtype=torch.float64) / 4
GROUP = torch.tensor([0, 0, 1, 1, 1, 2])


def joint() -> PairDistribution:
    """What a calibrated model predicts for each of the three groups."""
    membership = torch.nn.functional.one_hot(GROUP, 3).double() * WEIGHTS.unsqueeze(1)
    share = membership / membership.sum(0)
    return PairDistribution.from_log_joint(torch.einsum("xg,xi,xj->gij", share, ROWS, ROWS).log())


def expected(values: Tensor) -> Tensor:
    """Mean over inputs of a value of each."""
    return (WEIGHTS * values).sum()
