"""Gradient descent whose step is as long as the loss allows: Armijo's backtracking line search.

A step s along the negative gradient is accepted when the loss has fallen by a fraction c of what the slope promises,

    L(ω − s ∇L) ≤ L(ω) − c s ‖∇L‖²,

else s is made smaller and tried again. On one fixed loss, as a target surrogate is, this is gradient descent that needs
no learning rate. On mini-batches, with one batch for the loss and the trials, it is the stochastic line search of
Vaswani et al. (NeurIPS 2019, arXiv 1905.09997).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributed import ProcessGroup
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT


class Search(NamedTuple):
    """What the last line search found: whether a step was accepted, its length, and the number of trials."""

    accepted: bool
    step: float
    trials: int


class ArmijoGD(Optimizer):
    """Gradient descent with Armijo's line search.

    The closure is called once with gradients enabled, and must then call ``backward()``, and once for every trial with
    gradients disabled, when it must not:

        def closure():
            loss = loss_of(model(inputs))
            if torch.is_grad_enabled():
                optimizer.zero_grad()
                loss.backward()
            return loss

    All parameter groups share one step. A search reads the loss, and so waits for the device at every trial. When no
    step is accepted the parameters are left as they were, and `search` says so.

    Args:
        params: parameters or groups of them.
        first_step: the first trial of the first search.
        c: the fraction of the promised decrease, in (0, 1).
        shrink: what a rejected step is multiplied by, in (0, 1).
        expand: what the last accepted step is multiplied by to be the next search's first trial, at least 1.
        max_tries: trials in a search.
        min_step: no trial is shorter.
        process_group: processes that each hold a part of the batch and gradients averaged over it (DDP): they decide
            on the mean of their losses, and so alike.

    Raises:
        ValueError: if an option is out of range.
    """

    def __init__(
        self,
        params: ParamsT,
        first_step: float = 1.0,
        c: float = 0.5,
        shrink: float = 0.9,
        expand: float = 1.8,
        *,
        max_tries: int = 100,
        min_step: float = 1e-6,
        process_group: ProcessGroup | None = None,
    ) -> None:
        for name, value in (("first_step", first_step), ("min_step", min_step)):
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be positive and finite, got {value}")
        for name, value in (("c", c), ("shrink", shrink)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must be in (0, 1), got {value}")
        if not 1 <= expand < math.inf:
            raise ValueError(f"expand must be at least 1, got {expand}")
        if max_tries < 1:
            raise ValueError(f"max_tries must be at least 1, got {max_tries}")
        self.c, self.shrink, self.expand = c, shrink, expand
        self.max_tries, self.min_step = max_tries, min_step
        self.process_group = process_group
        self.search: Search | None = None
        super().__init__(params, {"first_step": first_step, "last_step": first_step / expand})

    def restart(self) -> None:
        """Begin the next search at ``first_step``, as for a loss that has nothing to do with the last one."""
        for group in self.param_groups:
            group["last_step"] = group["first_step"] / self.expand

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Search for a step and take it; return the loss before it.

        Raises:
            ValueError: if there is no closure.
        """
        if closure is None:
            raise ValueError("closure must be a function that returns the loss: a line search has to try steps")
        with torch.enable_grad():
            loss = closure()
        weights = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        if not weights:
            self.search = Search(False, 0.0, 0)
            return loss
        grads: list[Tensor] = [p.grad.clone() for p in weights if p.grad is not None]
        start = [p.clone() for p in weights]
        before = self._mean(loss)
        slope = float(sum(grad.double().square().sum() for grad in grads))
        step, accepted, trials = self.param_groups[0]["last_step"] * self.expand, False, 0
        while not accepted and trials < self.max_tries and step >= self.min_step:
            trials += 1
            torch._foreach_copy_(weights, start)
            torch._foreach_add_(weights, grads, alpha=-step)
            # Written so that a NaN is a refusal.
            accepted = self._mean(closure()) <= before - self.c * step * slope
            if not accepted:
                step *= self.shrink
        if accepted:
            for group in self.param_groups:
                group["last_step"] = step
        else:
            torch._foreach_copy_(weights, start)
        self.search = Search(accepted, step if accepted else 0.0, trials)
        return loss

    def _mean(self, loss: Any) -> float:
        value = torch.as_tensor(loss, dtype=torch.float64)
        if self.process_group is not None:
            value = value.clone()
            torch.distributed.all_reduce(value, group=self.process_group)
            value /= self.process_group.size()
        return float(value)
