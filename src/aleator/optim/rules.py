"""Rules for tensors that are treated differently, by name or by shape.

A rule is a function of a parameter's name and the parameter. `without_decay` turns one into parameter groups for any
torch optimizer; the layerwise optimizers of this room also take one as ``adapt``. What practice excludes from weight
decay and layer adaptation, biases and the gains of normalisation layers, is `is_vector`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

Rule = Callable[[str, Tensor], bool]


def is_vector(name: str, parameter: Tensor) -> bool:
    """Whether a parameter has at most one dimension, as biases and the gains of normalisation layers have."""
    return parameter.ndim <= 1


def name_matches(*patterns: str) -> Rule:
    """Return the rule that holds where one of the regular expressions is found in the name."""
    return _NameMatches(tuple(re.compile(pattern) for pattern in patterns))


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


@dataclass(frozen=True)
class _NameMatches:
    patterns: tuple[re.Pattern[str], ...]

    def __call__(self, name: str, parameter: Tensor) -> bool:
        return any(pattern.search(name) for pattern in self.patterns)


@dataclass(frozen=True)
class KeptRule:
    """A rule that an optimizer keeps for groups that join later: pickled by its name, as pickle does with functions.

    Attributes:
        rule: what it says.
    """

    rule: Rule

    def __call__(self, name: str, parameter: Tensor) -> bool:
        """Return whether the rule holds."""
        return bool(self.rule(name, parameter))

    def __deepcopy__(self, memo: object) -> KeptRule:
        """Return itself, as functions do."""
        return self

    def __reduce__(self) -> tuple[type[KeptRule], tuple[Rule]]:
        """Pickle the rule.

        Raises:
            pickle.PicklingError: if it cannot be, as a lambda cannot.
        """
        try:
            pickle.dumps(self.rule)
        except Exception as error:
            name = getattr(self.rule, "__qualname__", repr(self.rule))
            raise pickle.PicklingError(
                f"adapt must be a function at the top of a module to be pickled with its optimizer, got {name}; "
                "name_matches(...) and is_vector can be pickled"
            ) from error
        return KeptRule, (self.rule,)
