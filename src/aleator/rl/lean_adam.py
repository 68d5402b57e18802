"""PyTorch's Adam by its fused kernel, without what ``torch.optim`` does around a step.

Small networks take a step in less time than the bookkeeping: sorting parameters by device and type, hooks, counting
calls. Here the lists are made once. State and ``state_dict`` are those of `torch.optim.Adam`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class LeanAdam(torch.optim.Adam):
    """Adam with one group of parameters and nothing but ``lr``; every parameter must have a gradient at every step.

    Args:
        parameters: on one device, of one type, contiguous.
        lr: step size.
    """

    def __init__(self, parameters: Iterable[Tensor], lr: float) -> None:
        super().__init__(parameters, lr=lr, fused=True)
        self._lists: tuple[list[Any], ...] | None = None

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        """Take a step.

        Raises:
            ValueError: if there is a closure, which nothing here calls.
        """
        if closure is not None:
            raise ValueError("LeanAdam takes no closure, got one")
        group = self.param_groups[0]
        parameters = group["params"]
        if self._lists is None:
            self._lists = self._state_lists(parameters)
        # The kernel reads memory in order, whatever the strides say.
        gradients = [parameter.grad.contiguous() for parameter in parameters]
        means, squares, steps = self._lists
        torch._foreach_add_(steps, 1)
        torch._fused_adam_(
            parameters,
            gradients,
            means,
            squares,
            [],
            steps,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=0.0,
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
        )

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Continue from a copy, a pickle or ``load_state_dict``, whose tensors are other ones."""
        super().__setstate__(state)  # type: ignore[no-untyped-call]
        self._lists = None

    def _state_lists(self, parameters: list[Tensor]) -> tuple[list[Any], ...]:
        for parameter in parameters:
            state = self.state[parameter]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        return tuple(
            [self.state[parameter][name] for parameter in parameters] for name in ("exp_avg", "exp_avg_sq", "step")
        )
