"""Which tensors are treated differently, said by name or by shape.

A rule is a function of a parameter's name and the parameter. `without_decay` turns one into parameter groups for any
torch optimizer; the layerwise optimizers of this room also take one as ``adapt``. What practice excludes from weight
decay and layer adaptation, biases and the gains of normalisation layers, is `is_vector`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor

Rule = Callable[[str, Tensor], bool]


def is_vector(name: str, parameter: Tensor) -> bool:
    """Whether a parameter has at most one dimension, as biases and the gains of normalisation layers have."""
    return parameter.ndim <= 1


def name_matches(*patterns: str) -> Rule:
    """Return the rule that holds where one of the regular expressions is found in the name."""
    compiled = [re.compile(pattern) for pattern in patterns]
    return lambda name, parameter: any(pattern.search(name) for pattern in compiled)


def without_decay(named_parameters: Iterable[tuple[str, Tensor]], rule: Rule = is_vector) -> list[dict[str, Any]]:
    """Return two parameter groups: what decays as the optimizer says, and, with weight decay 0, where the rule holds.

    Args:
        named_parameters: of a module; those that are not trained are left out.
        rule: which of them do not decay.

    Example:
        >>> import torch
        >>> from aleator.optim import LAMB
        >>> model = torch.nn.Linear(3, 2)
        >>> optimizer = LAMB(without_decay(model.named_parameters()), lr=0.01, adapt="decayed")
    """
    trained = [(name, parameter) for name, parameter in named_parameters if parameter.requires_grad]
    excluded = [pair for pair in trained if rule(*pair)]
    others = [pair for pair in trained if not rule(*pair)]
    groups: list[dict[str, Any]] = [{"params": others}, {"params": excluded, "weight_decay": 0.0}]
    return [group for group in groups if group["params"]]
