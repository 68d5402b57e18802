"""Proximal SVRG: stochastic steps whose noise dies out, so that zeros stay zeros.

    x̃ = x,  μ = ∇F(x̃)                                          once a pass over the data, over all of it
    x ← prox_{γf}(x − γ (∇F_B(x) − ∇F_B(x̃) + μ))               for each batch B of the pass

The three gradients together are unbiased, and their variance vanishes as x and x̃ approach the solution. A coordinate
that the operator has set to zero is then not woken up by noise, and a constant rate reaches the solution itself. Every
step costs two passes through the batch. It is for problems with finite sums that are trained to their end, such as
sparse linear models; on deep networks with augmentation and batch normalisation the variance hardly falls (A. Defazio
and L. Bottou, NeurIPS 2019).

L. Xiao and T. Zhang, "A Proximal Stochastic Gradient Method with Progressive Variance Reduction", SIAM J. Optim. 2014,
with the last iterate as the snapshot and batches without replacement.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import ParamsT

from aleator.optim.arguments import check_not_negative
from aleator.optim.proximal.operator import Prox
from aleator.optim.proximal.penalised import (
    ApplyTo,
    PenalisedOptimizer,
    evaluated,
    parts,
    refuse_sparse,
    trained,
)
from aleator.optim.sharded_norms import local, local_gradient
from aleator.optim.targets.repeated_passes import repeating


class ProxSVRG(PenalisedOptimizer):
    """Proximal steps with the gradient of a batch corrected by the gradient of all data at a snapshot.

    Call `snapshot` at the start of every pass, with a closure for the mean loss of all data, and `step` for each batch,
    with one for that batch. Both clear gradients, call ``backward`` and return the loss; they may do so in pieces. The
    closure of a batch is called twice. After `step` the gradients are the corrected ones; after `snapshot` they are the
    gradients of all data, and `proximal_gradient_norm` then says how far the solution is.

    Args:
        params: parameters, named parameters, or groups of them, which may have a ``prox`` of their own.
        lr: γ. With batches of 8 or more, 4/L to 8/L is a good start for the smoothness L of the mean loss, see
            `aleator.optim.linear_smoothness`; 1/(10 L) is what is proved for single examples.
        prox: an operator of `aleator.optim.proximal`, or None.
        apply_to: see `aleator.optim.ProximalSGD`.
        model: the model, where a pass through it moves buffers, as batch normalisation does: both passes of a step then
            leave behind what one would have. They draw the same random numbers in any case.

    Raises:
        ValueError: if an option is out of range.
        RuntimeError: in a step, if there is no snapshot yet or a gradient is sparse.

    Example:
        >>> from aleator.optim import proximal as prox
        >>> x, y = torch.eye(3), torch.tensor([[2.0], [1.0], [0.1]])
        >>> model = torch.nn.Linear(3, 1, bias=False)
        >>> optimizer = ProxSVRG(model.parameters(), lr=0.3, prox=prox.L1(0.2))
        >>> def closure(rows):
        ...     optimizer.zero_grad()
        ...     loss = (model(x[rows]) - y[rows]).square().mean()
        ...     loss.backward()
        ...     return loss
        >>> for _ in range(30):
        ...     _ = optimizer.snapshot(lambda: closure([0, 1, 2]))
        ...     for row in range(3):
        ...         _ = optimizer.step(lambda: closure([row]))
        >>> model.weight.detach()
        tensor([[1.7000, 0.7000, 0.0000]])
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor,
        prox: Prox | None = None,
        *,
        apply_to: ApplyTo = None,
        model: nn.Module | None = None,
    ) -> None:
        self.model = model
        super().__init__(params, {"lr": lr, "prox": prox, "apply_to": apply_to, "snapshots": 0})

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        check_not_negative(group, "lr")

    def _begin(self, group: dict[str, Any]) -> None:
        for parameter in group["params"]:
            self.state[parameter] = {
                "snapshot": parameter.detach().clone(),
                "mean_gradient": torch.zeros_like(parameter, memory_format=torch.preserve_format),
            }

    @torch.no_grad()
    def snapshot(self, closure: Callable[[], Any]) -> Any:
        """Take the present weights as x̃ and the gradient there as μ; return what the closure returned.

        Args:
            closure: clears gradients, computes the mean loss of all data and its gradients, and returns it.
        """
        torch.clear_autocast_cache()  # it knows weights by their place in memory
        loss = evaluated(closure)
        for group in self.param_groups:
            refuse_sparse(group["params"])
            for parameter in group["params"]:
                state = self.state[parameter]
                local(state["snapshot"]).copy_(local(parameter))
                if parameter.grad is None:
                    state["mean_gradient"].zero_()
                else:
                    local(state["mean_gradient"]).copy_(local_gradient(parameter))
            group["snapshots"] += 1
        return loss

    @torch.no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:  # type: ignore[override]
        """Make one step; return what the closure returned at the present weights.

        Args:
            closure: clears gradients, computes the mean loss of a batch and its gradients, and returns it.

        Raises:
            RuntimeError: if there is no snapshot yet, or a gradient is sparse.
        """
        if any(group["snapshots"] == 0 for group in self.param_groups):
            raise RuntimeError("snapshot must be called before the first step, with a closure for all data")
        every = [parameter for group in self.param_groups for parameter in group["params"]]
        with repeating(every, self.model) as again:
            torch.clear_autocast_cache()  # it knows weights by their place in memory
            loss = evaluated(closure)
            chosen = [(group, trained(group)) for group in self.param_groups]
            here = [[local_gradient(parameter).clone() for parameter in parameters] for _, parameters in chosen]
            present = [parts([p.detach().clone() for p in group["params"]]) for group, _ in chosen]
            try:
                for group, _ in chosen:
                    self._move(group, [local(self.state[p]["snapshot"]) for p in group["params"]])
                with torch.enable_grad():
                    again(closure)
            finally:
                for (group, _), weights in zip(chosen, present, strict=True):
                    self._move(group, weights)
                torch.clear_autocast_cache()
        for (group, parameters), gradients in zip(chosen, here, strict=True):
            refuse_sparse(parameters)
            if not parameters:
                continue
            corrected = [local_gradient(parameter) for parameter in parameters]
            torch._foreach_sub_(gradients, corrected)
            torch._foreach_add_(gradients, [local(self.state[p]["mean_gradient"]) for p in parameters])
            torch._foreach_copy_(corrected, gradients)
            rate = group["lr"]
            if isinstance(rate, Tensor):
                rate = float(rate) if rate.device.type == "cpu" else rate
            if isinstance(rate, Tensor):
                torch._foreach_mul_(gradients, rate)
                torch._foreach_sub_(parts(parameters), gradients)
            else:
                torch._foreach_sub_(parts(parameters), gradients, alpha=rate)
            self.apply_prox_(group, parameters)
        return loss

    @staticmethod
    def _move(group: dict[str, Any], weights: list[Tensor]) -> None:
        torch._foreach_copy_(parts(group["params"]), weights)

    def __getstate__(self) -> dict[str, Any]:
        state: dict[str, Any] = super().__getstate__()
        return state | {"model": self.model}  # torch copies and pickles only its own
