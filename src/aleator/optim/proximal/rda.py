"""Regularised dual averaging: weights that are a function of the mean of all gradients so far.

    x_1 = 0,    x_{t+1} = −(√t/γ) soft(ḡ_t, λ),    ḡ_t = (g_1 + … + g_t)/t

A coordinate is zero as long as its mean gradient lies within ±λ. The mean forgets the noise of single gradients, so RDA
has as many zeros as the solution, while proximal SGD's are undone by noise. It is an online method: it needs no second
pass and no snapshot, and comes close to the solution slowly.

L. Xiao, "Dual Averaging Methods for Regularized Stochastic Learning and Online Optimization", JMLR 2010, Algorithm 2
with h(x) = ‖x‖²/2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from aleator.optim.proximal.elementwise import L1
from aleator.optim.proximal.operator import check_positive, check_weight
from aleator.optim.proximal.penalised import (
    ApplyTo,
    PenalisedOptimizer,
    evaluated,
    parts,
    refuse_sparse,
    trained,
)
from aleator.optim.sharded_norms import local, local_gradient


class RDA(PenalisedOptimizer):
    """Dual averaging with an ℓ1 penalty, for models that may start at zero: linear ones.

    Args:
        params: parameters that are zero, named parameters, or groups of them with ``gamma`` and ``lam`` of their own.
        gamma: γ, positive. A small one takes long steps.
        lam: λ. A group's own is for all of it.
        apply_to: see `aleator.optim.ProximalSGD`; parameters without a penalty have λ = 0.

    Raises:
        ValueError: if an option is out of range; in the first step, if a parameter is not zero.
        RuntimeError: in a step, if a gradient is sparse.

    Example:
        >>> weight = torch.zeros(3, requires_grad=True)
        >>> optimizer = RDA([weight], gamma=1.0, lam=0.5)
        >>> weight.grad = torch.tensor([2.0, -1.0, 0.1])
        >>> optimizer.step()
        >>> weight.detach()
        tensor([-1.5000,  0.5000,  0.0000])
    """

    _own_options = ("prox", "apply_to", "lam", "gamma")

    def __init__(self, params: ParamsT, gamma: float, lam: float, *, apply_to: ApplyTo = None) -> None:
        super().__init__(params, {"gamma": gamma, "lam": lam, "apply_to": apply_to, "prox": None})

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add parameters; see `PenalisedOptimizer.add_param_group`."""
        if "lam" in param_group:
            param_group.setdefault("apply_to", "all")
        super().add_param_group(param_group)

    def _check(self, group: dict[str, Any]) -> None:
        check_positive("gamma", group["gamma"])
        check_weight("lam", group["lam"])
        group["prox"] = L1(group["lam"])
        super()._check(group)

    def _begin(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            self.state[parameter] = {
                "step": torch.zeros((), dtype=torch.float32),
                "mean_gradient": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; return what the closure returned.

        Raises:
            ValueError: in a parameter's first step, if it is not zero.
            RuntimeError: if a gradient is sparse.
        """
        loss = None if closure is None else evaluated(closure)
        for group in self.param_groups:
            parameters = trained(group)
            refuse_sparse(parameters)
            for parameter in parameters:
                if self.state[parameter]["step"] == 0 and bool(local(parameter).any()):
                    raise ValueError(
                        f"parameters must be zero before the first step of RDA, which forgets where they were, got one "
                        f"of shape {tuple(parameter.shape)} that is not"
                    )
            by_count: dict[int, list[Tensor]] = {}  # one may join late
            for parameter in parameters:
                self.state[parameter]["step"] += 1
                by_count.setdefault(int(self.state[parameter]["step"]), []).append(parameter)
            for count, together in by_count.items():
                means = [local(self.state[parameter]["mean_gradient"]) for parameter in together]
                gradients = [local_gradient(parameter) for parameter in together]
                torch._foreach_lerp_(means, gradients, 1 / count)
                torch._foreach_copy_(parts(together), torch._foreach_neg(means))
                for operator, chosen in self.penalised(group, together):
                    if operator is not None:
                        operator.apply_(parts(chosen), 1.0)
                torch._foreach_mul_(parts(together), math.sqrt(count) / group["gamma"])
        return loss
