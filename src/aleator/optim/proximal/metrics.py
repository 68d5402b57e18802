"""The metric in which a torch optimizer steps: one number for every coordinate, or a number for each.

    x ← prox in the metric D of (x − D⁻¹ d):    argmin f(x) + ½ Σ D_i (x_i − v_i)²

Adam steps by lr·m̂/(√v̂ + ε), so D = (√v̂ + ε)/lr; m̂ is a mean of gradients, and a gradient that stays moves a weight
by just lr/(√v̂ + ε): there is no factor 1/(1 − β₁). The momentum of SGD and RMSprop is a sum, and there is one. D is
taken from the optimizer's state after its step, where it is what the step was divided by.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, AdamW, Optimizer, RMSprop

from aleator.optim.adam import one_minus_power
from aleator.optim.proximal.operator import Step
from aleator.optim.proximal.sgd import effective_factor

State = dict[str, Any]


def _of_adam(group: dict[str, Any], states: list[State]) -> list[Tensor]:
    squares = [state["max_exp_avg_sq" if group["amsgrad"] else "exp_avg_sq"] for state in states]
    denominators = list(torch._foreach_sqrt(squares))
    for denominator, state in zip(denominators, states, strict=True):
        denominator.div_(_root_of_correction(group["betas"][1], state["step"], denominator)).add_(group["eps"])
    return denominators


def _root_of_correction(beta: float, step: Tensor, like: Tensor) -> float | Tensor:
    if step.device.type == "cpu" and not torch.compiler.is_compiling():
        return math.sqrt(-math.expm1(float(step) * math.log(beta))) if beta else 1.0
    return one_minus_power(beta, step, torch.promote_types(like.dtype, torch.float32)).sqrt().to(like.device)


def _of_rmsprop(group: dict[str, Any], states: list[State]) -> list[Tensor]:
    squares = [state["square_avg"] for state in states]
    if group["centered"]:
        squares = [
            square.addcmul(state["grad_avg"], state["grad_avg"], value=-1)
            for square, state in zip(squares, states, strict=True)
        ]
    denominators = list(torch._foreach_sqrt(squares))
    torch._foreach_add_(denominators, group["eps"])
    return denominators


def _of_adagrad(group: dict[str, Any], states: list[State]) -> list[Tensor]:
    denominators = list(torch._foreach_sqrt([state["sum"] for state in states]))
    for denominator, state in zip(denominators, states, strict=True):
        denominator.add_(group["eps"])
        if group["lr_decay"]:
            step = state["step"]
            count = float(step) if step.device.type == "cpu" else step
            denominator.mul_(1 + (count - 1) * group["lr_decay"])  # lr falls by as much
    return denominators


# By exact class: what derives from one of these may step otherwise.
_DIAGONALS: dict[type[Optimizer], Callable[[dict[str, Any], list[State]], list[Tensor]]] = {
    Adam: _of_adam,
    AdamW: _of_adam,
    RMSprop: _of_rmsprop,
    Adagrad: _of_adagrad,
}


def has_known_metric(optimizer: Optimizer) -> bool:
    """Whether the metric of an optimizer's step is known here."""
    return type(optimizer) is SGD or type(optimizer) in _DIAGONALS


def is_diagonal(optimizer: Optimizer) -> bool:
    """Whether the step has a scale of its own for every coordinate."""
    return type(optimizer) in _DIAGONALS


def step_of(optimizer: Optimizer, group: dict[str, Any]) -> Step:
    """Return the step that goes with the metric: lr, times 1/(1 − β) where momentum is a sum."""
    rate: Step = group["lr"]
    return rate * effective_factor(group) if type(optimizer) in (SGD, RMSprop) else rate


def diagonals(optimizer: Optimizer, group: dict[str, Any], parameters: list[Tensor]) -> list[Tensor]:
    """Return lr·D of each parameter, new tensors, spread over processes as the optimizer's state is."""
    return _DIAGONALS[type(optimizer)](group, [optimizer.state[parameter] for parameter in parameters])
