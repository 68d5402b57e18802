"""Cyclical steps: large ones to find a mode, small ones to sample it, again and again.

    h_k = (h₀/2)·(1 + cos(π (k mod K)/K)),      k = 0, 1, …

A cycle of K steps begins with h₀ and ends just above 0, where the sampler's bias is least. Samples are worth keeping in
the later part of a cycle.

R. Zhang, C. Li, J. Zhang, C. Chen and A. G. Wilson, "Cyclical Stochastic Gradient MCMC for Bayesian Deep Learning",
ICLR 2020, arXiv 1902.03932, equation 1, with K whole steps in each cycle.
"""

from __future__ import annotations

import math
import operator
from typing import SupportsIndex

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler


class CyclicalSteps(LRScheduler):
    """A schedule of the step size for samplers, called once after each step.

    Args:
        optimizer: a sampler; its learning rates are the h₀ of its groups.
        period: K, the steps of a cycle, at least 1.
        last_epoch: steps that were taken before; −1 at the beginning.

    Raises:
        ValueError: if the period is not a whole number of at least 1.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, period: SupportsIndex, last_epoch: int = -1) -> None:
        try:
            self.period = operator.index(period)
        except TypeError:
            raise ValueError(f"period must be a whole number of at least 1, got {period!r}") from None
        if self.period < 1:
            raise ValueError(f"period must be a whole number of at least 1, got {self.period}")
        super().__init__(optimizer, last_epoch)

    @property
    def phase(self) -> float:
        """How much of the cycle is over before the next step, in [0, 1): keep samples from about 1/2 on."""
        return (self.last_epoch % self.period) / self.period

    def get_lr(self) -> list[float | Tensor]:
        """Return the step size of each group for the next step."""
        return [base / 2 * (1 + math.cos(math.pi * self.phase)) for base in self.base_lrs]
