"""A saved optimizer state belongs to names of parameters, where they are known, and not to their places.

torch numbers parameters by their order in the groups. When a model registers its layers in another order, a state
that is loaded by number lands on the wrong ones, in silence where shapes agree. Optimizers that were made from
``named_parameters()`` save the names with their groups, so that they can be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def in_order_of(groups: Sequence[dict[str, Any]], state_dict: dict[str, Any]) -> dict[str, Any]:
    """Return a saved state with each group's parameters in the order of the optimizer's own, by their names.

    A state without names, or for an optimizer without, is returned as it is, to be matched by place as torch does it.

    Args:
        groups: ``param_groups`` of the optimizer.
        state_dict: what an optimizer's ``state_dict()`` returned.

    Raises:
        ValueError: if a group has other names than the saved one.
    """
    saved = state_dict["param_groups"]
    named = all("param_names" in group for group in [*groups, *saved])
    if len(groups) != len(saved) or not named:
        return state_dict
    ordered = []
    for index, (own, other) in enumerate(zip(groups, saved, strict=True)):
        numbers = dict(zip(other["param_names"], other["params"], strict=True))
        names = list(own["param_names"])
        if set(names) != set(numbers):
            differing = sorted(set(names) ^ set(numbers))
            raise ValueError(
                f"state_dict must be of the same parameters, got other names in group {index}: {', '.join(differing)}"
            )
        ordered.append({**other, "params": [numbers[name] for name in names], "param_names": names})
    return {**state_dict, "param_groups": ordered}
