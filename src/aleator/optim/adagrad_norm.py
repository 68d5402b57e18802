"""AdaGrad-Norm: one step size for all parameters, which falls as gradients add up.

    v_k = v_{k−1} + ‖g_k‖²,    x_{k+1} = x_k − α g_k / (√v_k + ε),    g_k the gradient of all parameters together

v is one number: however parameters are cut into tensors or groups, the step is the same. v_0 > 0 is itself the first
value of the sum. Weight decay λ joins the gradient before its norm is taken, g + λx.

R. Ward, X. Wu and L. Bottou, "AdaGrad Stepsizes: Sharp Convergence over Nonconvex Landscapes", JMLR 2020; used with
growing batches by T. Lau, H. Liu and M. Kolar, "AdAdaGrad", arXiv 2402.11215. The program of the latter is something
else: it has a sum for each row of a matrix, and its weight decay adds the gradient.
"""

from __future__ import annotations

import numbers
import warnings
from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from aleator.optim.arguments import check_not_negative
from aleator.optim.layerwise import LayerwiseOptimizer
from aleator.optim.sharded_norms import by_placement, local, local_gradient, norms_of_any_size, state_dtype


class AdaGradNorm(LayerwiseOptimizer):
    """AdaGrad-Norm. Nothing in a step waits for the device; under FSDP2 one number is reduced in a step.

    Every parameter keeps a copy of v, so that a state survives a change of groups, of processes, or of the model; the
    largest of them is v, which a parameter that was left out of some steps, or that joins, takes over.

    Args:
        params: parameters, named parameters, or groups of them; v is of all of them together.
        lr: α. With v far above ``initial_accumulator`` the length of a step is at most α.
        initial_accumulator: v_0, positive; of the sum of squares, and not its root.
        eps: ε, which may be 0.
        weight_decay: λ.

    Raises:
        ValueError: if an option is out of range.
        TypeError: if a parameter is complex.
        RuntimeError: if a parameter is a flat slice made by FSDP1; in a step, if a gradient is sparse.

    Example:
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = AdaGradNorm(model.parameters(), lr=0.5)
        >>> model(torch.ones(1, 3)).square().sum().backward()
        >>> optimizer.step()
    """

    def __new__(cls, *args: Any, **options: Any) -> Any:
        """Return an optimizer; or, for one more release, the step rule that once had this name."""
        given = args[0] if args else options.get("step_size")
        if isinstance(given, numbers.Real):
            from aleator.optim.targets.step_size import AdaGradNormStep

            warnings.warn(
                "AdaGradNorm is an optimizer; the step rule of target surrogates is AdaGradNormStep now, and this use "
                "of the old name will end with the next release",
                FutureWarning,
                stacklevel=2,
            )
            return AdaGradNormStep(*args, **options)
        return super().__new__(cls)

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1.0,
        *,
        initial_accumulator: float = 1e-2,
        eps: float = 1e-10,
        weight_decay: float = 0.0,
    ) -> None:
        defaults = {"lr": lr, "initial_accumulator": initial_accumulator, "eps": eps, "weight_decay": weight_decay}
        super().__init__(params, defaults)

    def _check(self, group: dict[str, Any]) -> None:
        check_not_negative(group, "lr", "eps", "weight_decay")
        check_not_negative(group, "initial_accumulator")
        if not group["initial_accumulator"] > 0:
            raise ValueError(f"initial_accumulator must be positive, got {group['initial_accumulator']}")
        if group["initial_accumulator"] != self.defaults["initial_accumulator"]:
            raise ValueError(
                f"initial_accumulator must be the same for all groups, {self.defaults['initial_accumulator']}, "
                f"got {group['initial_accumulator']}"
            )

    def _check_loaded(self, name: str, parameter: Tensor, state: dict[str, Any]) -> None:
        for part, value in state.items():
            if isinstance(value, Tensor) and value.numel() != 1:
                raise ValueError(
                    f"{part} of parameter {name} must be one number, got {tuple(value.shape)} in the saved state"
                )

    def _take_step(self) -> None:
        trained = [(group, parameter) for group in self.param_groups for _, parameter in self._trained(group)]
        if not trained:
            return
        gradients = [_decayed(parameter, group["weight_decay"]) for group, parameter in trained]
        v = self._added(_whole_square([parameter for _, parameter in trained], gradients))
        for (group, parameter), gradient in zip(trained, gradients, strict=True):
            weight = local(parameter)
            own = v.to(gradient.device, gradient.dtype, copy=True)
            # Of one dimension: torch's distributed checkpoint cannot broadcast a state of numbers without any.
            self.state[parameter]["sum"] = own.view(1)
            scale = -_rate(group["lr"], own) / (own.sqrt() + group["eps"])
            if weight.dtype == gradient.dtype:
                weight.add_(gradient.mul_(scale))
            else:
                weight.copy_(weight.to(gradient.dtype).add_(gradient.mul_(scale)))

    def _added(self, square: Tensor) -> Tensor:
        """Return v with a square added, in float64 where the device has it."""
        sums = [state["sum"].to(square).view(()) for state in self.state.values() if "sum" in state]
        before = torch.stack(sums).max() if sums else torch.full_like(square, self.defaults["initial_accumulator"])
        return before + square


def _rate(lr: float | Tensor, like: Tensor) -> float | Tensor:
    return lr.to(like.device, like.dtype) if isinstance(lr, Tensor) else lr


def _decayed(parameter: Tensor, weight_decay: float) -> Tensor:
    """Return g + λx of this process's part, as a tensor that nobody else holds."""
    gradient = local_gradient(parameter).to(state_dtype(parameter), copy=True)
    return gradient.add_(local(parameter).to(gradient.dtype), alpha=weight_decay) if weight_decay else gradient


def _whole_square(parameters: list[Tensor], gradients: list[Tensor]) -> Tensor:
    """Return ‖g‖² over all parameters, of which processes may hold parts."""
    total: Tensor | None = None
    for placement, indices in by_placement(parameters).items():
        square = norms_of_any_size([gradients[i] for i in indices], placement).double().square().sum()
        total = square if total is None else total + square.to(total.device)
    assert total is not None
    return total
