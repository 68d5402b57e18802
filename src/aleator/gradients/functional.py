"""A module's loss as a function of its parameters, for estimators that look at other weights than those in the module.

    theta = trainable(model)                                  # copies by name, float32 at least
    loss = functional_loss(model, lambda model, batch: model(**batch).loss)
    g = spsa(lambda t: loss(t, batch), theta, None, 1e-3, key=key)

The module stays as it is. Its buffers too: a module in training mode moves running statistics of a copy, so that both
sides of a probe start from the same ones. Parameters are cast to the type that they have in the module, which may be
of half precision.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

Objective = Callable[[Any, Any], Tensor]


def trainable(model: nn.Module) -> dict[str, Tensor]:
    """Return copies of the parameters that require a gradient, by name: the master copy of a swarm.

    A parameter that has two names is there once. Half precision becomes float32.

    Raises:
        ValueError: if there is none, or one is not floating point.
    """
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            wide = parameter.dtype in (torch.float32, torch.float64)
            copy = parameter.detach().clone()
            found[name] = copy if wide else copy.float()
    if not found:
        raise ValueError("model must have parameters that require a gradient, got none")
    return found


class _WithObjective(nn.Module):
    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model, self.objective = model, objective

    def forward(self, batch: Any) -> Tensor:
        return self.objective(self.model, batch)


def functional_loss(model: nn.Module, objective: Objective) -> Callable[[Mapping[str, Tensor], Any], Tensor]:
    """Return loss(theta, batch), the objective of the module with other parameters in it.

    Args:
        model: any module, in the mode in which it shall be.
        objective: from the module and a batch to a scalar.
    """
    whole = _WithObjective(model, objective)
    types = {name: parameter.dtype for name, parameter in model.named_parameters()}

    def loss(theta: Mapping[str, Tensor], batch: Any) -> Tensor:
        if unknown := theta.keys() - types.keys():
            raise ValueError(f"theta must hold parameters of the model, got {sorted(unknown)[0]}")
        tensors = {f"model.{name}": tensor.to(types[name]) for name, tensor in theta.items()}
        if model.training:
            tensors |= {f"model.{name}": buffer.clone() for name, buffer in model.named_buffers()}
        found: Tensor = functional_call(whole, tensors, (batch,))
        return found

    return loss
