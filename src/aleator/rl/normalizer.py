"""Observations brought to mean 0 and deviation 1, by the statistics of everything seen in training.

Evaluation uses the same statistics and adds nothing to them. They are gathered in float64 on the CPU, by the update of
Chan, Golub and LeVeque for a group of new values; the replay keeps observations as they came, so that a batch is
always normalised by what is known now.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

_CLIP = 10.0


class ObservationNormalizer(nn.Module):
    """Running mean and deviation of each coordinate.

    Args:
        dim: width of an observation.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(dim))
        self.register_buffer("scale", torch.ones(dim))
        self._moments = torch.zeros(3, dim, dtype=torch.float64)  # count, mean, sum of squares about the mean

    def observe(self, obs: npt.NDArray[np.floating]) -> None:
        """Add observations, [rows, dim], to the statistics."""
        count, mean, squares = self._moments
        new = torch.from_numpy(np.asarray(obs, np.float64))
        rows = len(new)
        new_mean = new.mean(0)
        delta, total = new_mean - mean, count + rows
        squares += (new - new_mean).square().sum(0) + delta.square() * count * rows / total
        mean += delta * rows / total
        count += rows
        std = (squares / count).sqrt()
        self.mean.copy_(mean)
        self.scale.copy_(1 / torch.where(std > 1e-6, std, 1.0))

    def forward(self, obs: Tensor) -> Tensor:
        """Return normalised observations, cut to [−10, 10]."""
        return ((obs - self.mean) * self.scale).clamp(-_CLIP, _CLIP)

    def get_extra_state(self) -> Tensor:
        """Return the statistics, which stay in float64 whatever the module is converted to."""
        return self._moments.clone()

    def set_extra_state(self, state: Tensor) -> None:
        """Continue where `get_extra_state` was called."""
        self._moments.copy_(state)
