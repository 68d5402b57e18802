"""Pflug's test: are gradients of neighbouring steps still aligned?

    S = Σ ⟨g_t, g_{t−1}⟩,    S < 0 → stationary

On the way to a solution successive gradients point the same way; around it each step is partly undone by the next, and
the sum becomes negative. It is known to fire too early or too late, since the sum's drift is small beside its noise:
here it is a baseline for `SASA`.

G. Pflug, "Non-asymptotic Confidence Bounds for Stochastic Approximation Algorithms with Constant Step Size", Monatsh.
Math. 1990; J. Chee and P. Toulis, "Convergence Diagnostics for Stochastic Gradient Descent with Constant Learning
Rate", AISTATS 2018, for the burn-in; on its failures, S. Pesme, A. Dieuleveut and N. Flammarion, ICML 2020, arXiv
2007.00534.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim import Optimizer

from aleator.optim.stationarity.schedule import (
    StationaritySchedule,
    check_whole,
    decayed_gradient,
    names_of,
    refuse_prox,
)


class Pflug(StationaritySchedule):
    """Lower the learning rate when the sum of inner products of successive gradients is negative.

    Keeps a copy of the last gradient. The device is waited for once in ``check_every`` steps.

    Args:
        optimizer: whose gradients are looked at, as they are when it steps, weight decay included. Momentum makes
            successive steps alike and does not change what the test looks at.
        burn_in: steps after the start and after each drop in which nothing is decided; the sum counts them.
        check_every: steps from one look at the sum to the next.
        factor: what the learning rates are multiplied by.

    Raises:
        ValueError: if a number is out of range, or the optimizer has a proximal step, with which gradients do not
            average to zero at a solution.
        RuntimeError: in a step with a closure or scaled gradients, or if parameters are sharded.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> schedule = Pflug(optimizer, burn_in=500)
    """

    _numbers = (*StationaritySchedule._numbers, "since", "sum", "last")

    def __init__(self, optimizer: Optimizer, burn_in: int = 500, check_every: int = 50, *, factor: float = 0.1) -> None:
        refuse_prox(optimizer, "its gradients do not average to zero at a solution")
        check_whole("Pflug", [parameter for _, parameter in names_of(optimizer)])
        if burn_in < 0:
            raise ValueError(f"burn_in must not be negative, got {burn_in}")
        if check_every < 1:
            raise ValueError(f"check_every must be at least 1, got {check_every}")
        self.burn_in = burn_in
        self.check_every = check_every
        self.since = 0
        self.sum: Tensor | None = None
        self.last: dict[str, Tensor] = {}
        super().__init__(optimizer, factor)

    def before_step(self) -> None:
        """Add ⟨g_t, g_{t−1}⟩ to the sum."""
        groups = {p: group for group in self.optimizer.param_groups for p in group["params"]}
        products = []
        for name, parameter in names_of(self.optimizer):
            if parameter.grad is None:
                continue
            gradient = decayed_gradient(groups[parameter], parameter, parameter.grad)
            if name in self.last:
                products.append((self.last[name].to(gradient) * gradient).sum(dtype=torch.float64))
                self.last[name] = self.last[name].to(gradient)
                self.last[name].copy_(gradient)
            else:
                self.last[name] = gradient.clone()
        if products:
            product = torch.stack([value.to(products[0].device) for value in products]).sum()
            self.sum = product if self.sum is None else self.sum.to(product.device) + product

    def after_step(self) -> None:
        """Test when it is time."""
        self.since += 1
        due = self.since > self.burn_in and self.since % self.check_every == 0
        if due and self.sum is not None and float(self.sum) < 0:
            self.drop()

    def forget(self) -> None:
        """Forget the sum and the last gradient."""
        self.since, self.sum, self.last = 0, None, {}
