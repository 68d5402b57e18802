"""Learning-rate schedules that end where the budget ends.

A cosine of exactly T steps, T being the number of optimizer steps that will be made and not the number in a full-length
run:

    lr_t = lr_min + (lr − lr_min) (1 + cos(π t / T)) / 2,    t = 0 … T.

Step number t, from 0, uses lr_t; lr_T = lr_min is what is left after the last one. Past T the rate stays at lr_min,
where a cosine would turn up again. For steps instead of a cosine, torch's ``StepLR(optimizer, k * steps_per_round)``,
stepped per batch, is all that is needed.

Schedule of P. Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning", ICLR 2024;
cosine annealing is I. Loshchilov and F. Hutter, "SGDR", ICLR 2017.
"""

from __future__ import annotations

import math

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler


def cosine_factor(step: int, total_steps: int) -> float:
    """Return (1 + cos(π t / T)) / 2 for t = ``step`` and T = ``total_steps``, 0 past T."""
    return (1 + math.cos(math.pi * min(step, total_steps) / total_steps)) / 2


class CosineToBudget(LRScheduler):
    """Cosine from each group's own learning rate down to ``lr_min`` in ``total_steps`` steps, after a linear warmup.

    Call ``step()`` after every optimizer step. With a warmup of w steps, step t < w uses lr·(t + 1)/(w + 1) and the
    cosine takes the remaining T − w steps. Learning rates are computed from the step number alone, so a resumed run
    continues on the same values. A group that is added later follows the same curve from the next step on, with its
    own learning rate as the peak. Accelerate steps a prepared schedule once per process: leave this one unprepared.

    Args:
        optimizer: its groups' learning rates are the peaks.
        total_steps: T, counted in optimizer steps; `aleator.data.BudgetPlan.total_steps`.
        lr_min: where the cosine ends, the same for all groups; at most the smallest peak. The authors use 1e-4 with a
            peak of 0.1.
        warmup: w, in steps, smaller than T.

    Raises:
        ValueError: if a value is out of range.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> schedule = CosineToBudget(optimizer, total_steps=7800, lr_min=1e-4)
    """

    def __init__(self, optimizer: Optimizer, total_steps: int, lr_min: float = 0.0, warmup: int = 0) -> None:
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}")
        if not 0 <= warmup < total_steps:
            raise ValueError(f"warmup must be in [0, {total_steps}), total_steps being {total_steps}, got {warmup}")
        if not lr_min >= 0:
            raise ValueError(f"lr_min must not be negative, got {lr_min}")
        for group in optimizer.param_groups:
            _check_peak(group.get("initial_lr", group["lr"]), lr_min)
        self.total_steps = total_steps
        self.lr_min = lr_min
        self.warmup = warmup
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group at the present step.

        Raises:
            ValueError: if a group that was added has a peak below ``lr_min``.
        """
        for group in self.optimizer.param_groups:
            if "initial_lr" not in group:  # added after construction
                _check_peak(group["lr"], self.lr_min)
                group["initial_lr"] = group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"]
        return [self._rate(group["initial_lr"]) for group in self.optimizer.param_groups]

    def _rate(self, peak: float | Tensor) -> float | Tensor:
        step = self.last_epoch
        if step < self.warmup:
            return peak * ((step + 1) / (self.warmup + 1))
        return self.lr_min + (peak - self.lr_min) * cosine_factor(step - self.warmup, self.total_steps - self.warmup)


def _check_peak(peak: float | Tensor, lr_min: float) -> None:
    if peak < lr_min:  # the rate would rise
        raise ValueError(f"lr_min must be at most the learning rate of every group, here {float(peak)}, got {lr_min}")
