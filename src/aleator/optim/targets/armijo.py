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
from torch import Tensor, nn
from torch.distributed import ProcessGroup
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

from aleator.optim.targets.repeated_passes import repeating


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
    step is accepted the parameters are left as they were, and `search` says so; where the loss or its gradient is not
    finite nothing is tried. Trials draw the random numbers of the first call, so that dropout has one mask in a step,
    and see the weights of their own under ``torch.autocast``.

    Args:
        params: parameters or groups of them.
        first_step: the first trial of the first search.
        c: the fraction of the promised decrease, in (0, 1).
        shrink: what a rejected step is multiplied by, in (0, 1).
        expand: what the last accepted step is multiplied by to be the next search's first trial, at least 1.
        max_tries: trials in a search.
        min_step: no trial is shorter.
        model: what the closure calls; its buffers, such as the running statistics of batch normalisation, then move
            once in a step and not in every trial.
        process_group: processes that each hold a part of the batch and gradients averaged over it (DDP): they decide
            on the mean of their losses, and so alike.

    Raises:
        ValueError: if an option is out of range.
        TypeError: if a parameter is complex.
    """

    process_group: ProcessGroup | None = None  # cannot be copied: a copy decides by its own loss

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
        model: nn.Module | None = None,
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
        self.model = model
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

        An error in a trial, an interrupt included, leaves weights and buffers as they were before the step.

        Raises:
            ValueError: if there is no closure.
            RuntimeError: if a gradient is sparse.
        """
        if closure is None:
            raise ValueError("closure must be a function that returns the loss: a line search has to try steps")
        every = [p for group in self.param_groups for p in group["params"]]
        with repeating(every, self.model) as again:
            with torch.enable_grad():
                loss = closure()
            weights = [p for p in every if p.grad is not None]
            self.search = self._searched(weights, self._mean(loss), lambda: self._mean(again(closure)))
        if self.search.accepted:
            for group in self.param_groups:
                group["last_step"] = self.search.step
        return loss

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters, which share the step of the others.

        Raises:
            TypeError: if a parameter is complex.
        """
        super().add_param_group(param_group)
        for parameter in self.param_groups[-1]["params"]:
            if not parameter.is_floating_point():
                self.param_groups.pop()
                raise TypeError(f"parameters must be real, got {parameter.dtype}")

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        kept = ("c", "shrink", "expand", "max_tries", "min_step", "model", "search")
        return state | {name: getattr(self, name) for name in kept}  # torch copies and pickles only its own

    def _searched(self, weights: list[Tensor], before: float, trial: Callable[[], float]) -> Search:
        """Move the weights by the first step that is accepted, or leave them."""
        grads: list[Tensor] = [p.grad.clone() for p in weights if p.grad is not None]
        for grad in grads:
            if grad.layout != torch.strided:
                raise RuntimeError(f"gradients must be dense, got one of layout {grad.layout}")
        slope = float(sum(grad.double().square().sum() for grad in grads))
        if not weights or not math.isfinite(before) or not math.isfinite(slope):
            return Search(False, 0.0, 0)
        start = [p.clone() for p in weights]
        step, accepted, trials = self.param_groups[0]["last_step"] * self.expand, False, 0
        try:
            while not accepted and trials < self.max_tries and step >= self.min_step:
                trials += 1
                torch._foreach_copy_(weights, start)
                torch._foreach_add_(weights, grads, alpha=-step)
                # Written so that a NaN is a refusal.
                accepted = trial() <= before - self.c * step * slope
                if not accepted:
                    step *= self.shrink
        finally:
            if not accepted:
                torch._foreach_copy_(weights, start)
        return Search(accepted, step if accepted else 0.0, trials)

    def _mean(self, loss: Any) -> float:
        value = torch.as_tensor(loss, dtype=torch.float64)
        if self.process_group is not None:
            value = value.clone()
            torch.distributed.all_reduce(value, group=self.process_group)
            value /= self.process_group.size()
        return float(value)
