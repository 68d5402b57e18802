"""Pegasos: stochastic subgradient descent for support vector machines, with the step that strong convexity gives.

    w_1 = 0,    w ← (1 − 1/t) w − g/(λt),    then ‖w‖ ≤ 1/√λ by projection,    t = 1, 2, …

for the objective (λ/2)‖w‖² + the mean of max(0, 1 − y⟨w, x⟩) over the data. g is the gradient of the hinge alone: the
ridge part is in the step. There is no learning rate to tune. All parameters together are w; a bias would be penalised,
so append a constant feature instead if that is what you want.

S. Shalev-Shwartz, Y. Singer, N. Srebro and A. Cotter, "Pegasos: Primal Estimated sub-GrAdient SOlver for SVM", Math.
Program. 2011, Figure 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from aleator.optim.proximal.elementwise import Ridge
from aleator.optim.proximal.operator import check_positive
from aleator.optim.proximal.penalised import PenalisedOptimizer, evaluated, parts, refuse_sparse, trained
from aleator.optim.sharded_norms import by_placement, local, local_gradient, norms


class Pegasos(PenalisedOptimizer):
    """Subgradient steps of length 1/(λt), and a projection on the ball that the solution lies in.

    Args:
        params: parameters, named parameters, or groups of them; together they are w. The first step forgets where they
            were, but its gradient is taken there: zero in the paper.
        lam: λ, positive, one for all of them.

    Raises:
        ValueError: if λ is not positive, or a group has another one.
        RuntimeError: in a step, if a gradient is sparse.

    Example:
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> optimizer = Pegasos([weight], lam=0.5)
        >>> (1 - weight @ torch.tensor([1.0, 0.0])).clamp(min=0).backward()
        >>> optimizer.step()
        >>> weight.detach()
        tensor([1.4142, 0.0000])
    """

    _own_options = ("prox", "apply_to", "lam")

    def __init__(self, params: ParamsT, lam: float) -> None:
        super().__init__(params, {"lam": lam, "prox": None, "apply_to": "all"})

    def _check(self, group: dict[str, Any]) -> None:
        check_positive("lam", group["lam"])
        if group["lam"] != self.defaults["lam"]:
            raise ValueError(f"lam must be the same for all groups, {self.defaults['lam']}, got {group['lam']}")
        group["prox"] = Ridge(group["lam"])  # what `penalty` and `proximal_gradient_norm` speak of
        super()._check(group)

    def _begin(self, group: dict[str, Any]) -> None:
        group.setdefault("t", self.param_groups[0].get("t", 0))  # steps taken, the same for all groups

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make one step; return what the closure returned.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        loss = None if closure is None else evaluated(closure)
        every = [parameter for group in self.param_groups for parameter in trained(group)]
        refuse_sparse(every)
        if not every:
            return loss
        lam, t = self.defaults["lam"], self.param_groups[0]["t"] + 1
        for group in self.param_groups:
            group["t"] = t
        gradients = [local_gradient(parameter) for parameter in every]
        torch._foreach_mul_(parts(every), 1 - 1 / t)
        torch._foreach_sub_(parts(every), gradients, alpha=1 / (lam * t))
        everything = [parameter for group in self.param_groups for parameter in group["params"]]
        squares = [
            norms([local(everything[i]) for i in indices], placement).square().sum()
            for placement, indices in by_placement(everything).items()
        ]
        norm = torch.stack([square.to(squares[0].device) for square in squares]).sum().sqrt()
        radius = 1 / math.sqrt(lam)
        scale = torch.where(norm <= radius, 1.0, radius / torch.where(norm <= radius, 1.0, norm))
        for parameter in everything:
            part: Tensor = local(parameter)
            part.mul_(scale.to(part.device))
        return loss
