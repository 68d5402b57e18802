"""FISTA: proximal gradient steps with Nesterov's momentum, on all data; the reference that others are held against.

    x_k = prox_{γf}(y_k − γ∇F(y_k)),    t_{k+1} = (1 + √(1 + 4t_k²))/2,
    y_{k+1} = x_k + ((t_k − 1)/t_{k+1})(x_k − x_{k−1})

with y_1 = x_0 and t_1 = 1. The objective falls as 1/k² where γ ≤ 1/L. Momentum overshoots where the problem is strongly
convex; a restart, t = 1, when it points uphill or the objective has risen makes the rate linear there.

A. Beck and M. Teboulle, "A Fast Iterative Shrinkage-Thresholding Algorithm for Linear Inverse Problems", SIAM J.
Imaging Sci. 2009; B. O'Donoghue and E. Candès, "Adaptive Restart for Accelerated Gradient Schemes", Found. Comput.
Math. 2015.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.optim.optimizer import ParamsT

from aleator.optim.proximal.operator import Prox, check_positive
from aleator.optim.proximal.penalised import ApplyTo, PenalisedOptimizer, evaluated, refuse_sparse, trained

Restart = Literal["gradient", "function"] | None


class FISTA(PenalisedOptimizer):
    """Accelerated proximal gradient descent. Between steps the parameters are x_k.

    Args:
        params: parameters, named parameters, or groups of them, which may have a ``prox`` of their own.
        lr: γ, at most 1/L.
        prox: an operator of `aleator.optim.proximal`, or None.
        restart: ``"gradient"``, where ⟨y_k − x_k, x_k − x_{k−1}⟩ > 0; ``"function"``, where loss and penalty at x_k are
            above those at x_{k−1}, for which the closure is called once more in a step; or None. Either waits for the
            device once in a step.
        apply_to: see `aleator.optim.ProximalSGD`.

    Raises:
        ValueError: if an option is out of range.
        RuntimeError: if a parameter is shared out, or in a step, if a gradient is sparse.

    Example:
        >>> from aleator.optim import proximal as prox
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> optimizer = FISTA([weight], lr=0.5, prox=prox.L1(0.5))
        >>> def closure():
        ...     optimizer.zero_grad()
        ...     loss = (weight - torch.tensor([2.0, 0.1])).square().sum() / 2
        ...     loss.backward()
        ...     return loss
        >>> done = optimizer.minimize(closure, tolerance=1e-6)
        >>> weight.detach()
        tensor([1.5000, 0.0000])
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        prox: Prox | None = None,
        *,
        restart: Restart = None,
        apply_to: ApplyTo = None,
    ) -> None:
        if restart not in ("gradient", "function", None):
            raise ValueError(f"restart must be 'gradient', 'function' or None, got {restart!r}")
        self.restart = restart
        # The residual of the last step, ‖y − x‖/γ, which is 0 at a solution.
        self.residual: Tensor | None = None
        super().__init__(params, {"lr": lr, "prox": prox, "apply_to": apply_to, "t": 1.0, "objective": math.inf})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_positive("lr", group["lr"])

    def _begin(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            if isinstance(parameter, DTensor):
                raise RuntimeError(
                    "parameters must be whole tensors for FISTA, got one that is sharded: whether to restart is "
                    "decided on all of them"
                )
            self.state[parameter] = {"extrapolated": parameter.detach().clone()}

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Make one step; return the loss at y_k.

        Args:
            closure: clears gradients, computes the loss of all data and its gradients, and returns it.

        Raises:
            RuntimeError: if a gradient is sparse.
        """
        before = [[p.detach().clone() for p in group["params"]] for group in self.param_groups]
        for group in self.param_groups:
            torch._foreach_copy_(group["params"], [self.state[p]["extrapolated"] for p in group["params"]])
        loss = evaluated(closure)
        inner, squares = [], []
        for group, olds in zip(self.param_groups, before, strict=True):
            parameters = trained(group)
            refuse_sparse(parameters)
            for parameter in parameters:
                parameter.add_(parameter.grad, alpha=-group["lr"])  # type: ignore[arg-type]
            self.apply_prox_(group, parameters)
            for parameter, old in zip(group["params"], olds, strict=True):
                beyond = self.state[parameter]["extrapolated"] - parameter
                inner.append((beyond * (parameter - old)).sum().double())
                squares.append(beyond.double().square().sum() / group["lr"] ** 2)
        self.residual = torch.stack(squares).sum().sqrt()
        restart = self._restarts(closure, torch.stack(inner).sum())
        for group, olds in zip(self.param_groups, before, strict=True):
            t = 1.0 if restart else group["t"]
            group["t"] = (1 + math.sqrt(1 + 4 * t * t)) / 2
            for parameter, old in zip(group["params"], olds, strict=True):
                torch.lerp(old, parameter, 1 + (t - 1) / group["t"], out=self.state[parameter]["extrapolated"])
        return loss

    def minimize(
        self, closure: Callable[[], Any], tolerance: float, max_steps: int = 10_000, check_every: int = 10
    ) -> bool:
        """Step until the norm of the proximal gradient is small; return whether it became so.

        Args:
            closure: as for `step`.
            tolerance: of ‖y_k − x_k‖/γ, which is 0 at a solution.
            max_steps: how many steps at most.
            check_every: how often the norm is read from the device.

        Raises:
            ValueError: if a number is out of range.
        """
        check_positive("tolerance", tolerance)
        check_positive("check_every", check_every)
        for count in range(1, max_steps + 1):
            self.step(closure)
            if count % check_every == 0 and self.residual is not None and float(self.residual) <= tolerance:
                return True
        return False

    def _restarts(self, closure: Callable[[], Any], inner: Tensor) -> bool:
        if self.restart == "gradient":
            return float(inner) > 0
        if self.restart is None:
            return False
        objective = float(evaluated(closure)) + float(self.penalty())
        risen: bool = objective > self.param_groups[0]["objective"]
        for group in self.param_groups:
            group["objective"] = objective
        return risen

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        # torch copies and pickles only its own.
        return state | {"restart": self.restart, "residual": self.residual}
