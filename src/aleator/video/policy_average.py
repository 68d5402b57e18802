"""The running mean of a policy's trained weights, which samples better than the last step does.

Of a policy with a LoRA these are the additions alone: the mean costs as much memory as they do, and none for the frozen
network. The rule and its warm-up are those of `aleator.optim.weight_ema`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from aleator.optim import weight_ema


class PolicyAverage:
    """A running mean of what trains in a model; while `applied`, the model has it in the place of its weights.

    Args:
        model: the policy.
        decay: d of the mean, in [0, 1).

    Raises:
        ValueError: if nothing trains in the model, or ``decay`` is out of range.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        self._trained = nn.ParameterList([p for p in model.parameters() if p.requires_grad])
        if not len(self._trained):
            raise ValueError("model must have parameters that train, got none")
        self._average = weight_ema(self._trained, decay)

    def update(self) -> None:
        """Let the mean follow the weights; call it after every step of the optimizer."""
        self._average.update_parameters(self._trained)

    @contextlib.contextmanager
    def applied(self) -> Iterator[None]:
        """Give the model the mean for a block, and then its weights back, to the bit."""
        own = [parameter.detach().clone() for parameter in self._trained]
        try:
            self._put(self._average.module.parameters())
            yield
        finally:
            self._put(own)

    @torch.no_grad()
    def _put(self, weights: Iterable[Tensor]) -> None:
        for parameter, weight in zip(self._trained, weights, strict=True):
            parameter.copy_(weight)

    def state_dict(self) -> dict[str, Any]:
        """Return the mean and how often it was updated."""
        return self._average.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self._average.load_state_dict(state)
