"""The matching of saved parameters to an optimizer's own: by name, where both sides have names.

torch matches a saved state to an optimizer by position. A model that registers its layers in another order than it did
when the state was saved would take the running means of other layers, without a word where shapes agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def by_name(
    own: Sequence[dict[str, Any]], saved: Sequence[dict[str, Any]], by_place: Sequence[str] = ()
) -> list[dict[str, Any]]:
    """Return saved parameter groups in the order of an optimizer's own groups and of the tensors in them.

    Saved tensors are numbered; torch's distributed checkpoint numbers them by names of its own, and has put them in
    order already.

    Args:
        own: the optimizer's groups.
        saved: the groups of a state, equal in number. Groups without names on one side are matched by position.
        by_place: options that may hold an entry for each tensor of a group.

    Raises:
        ValueError: if no saved group has a group's names.
    """
    if not all("param_names" in group and _differ(group["param_names"]) for group in (*own, *saved)):
        return list(saved)
    left, found = list(saved), []
    for number, group in enumerate(own):
        names = list(group["param_names"])
        match = next((other for other in left if set(other["param_names"]) == set(names)), None)
        if match is None:
            missing = sorted(set(names).difference(*(other["param_names"] for other in left)))
            what = f"which has no {missing[0]}" if missing else "which groups them otherwise"
            raise ValueError(
                f"param_names of group {number} must match a group of the saved state, {what}; a hook of "
                "register_load_state_dict_pre_hook may rename or regroup what was saved"
            )
        left.remove(match)
        found.append(_in_order(names, match, by_place))
    return found


def _differ(names: Sequence[str]) -> bool:
    return len(set(names)) == len(names)


def _in_order(names: list[str], saved: dict[str, Any], by_place: Sequence[str]) -> dict[str, Any]:
    places = {name: place for place, name in enumerate(saved["param_names"])}
    order = [places[name] for name in names]
    group = {**saved, "param_names": names}
    if set(saved["params"]) == set(names):
        group["params"] = names
    elif not all(isinstance(number, str) for number in saved["params"]):
        group["params"] = [saved["params"][place] for place in order]
    for option in by_place:
        if isinstance(saved.get(option), (tuple, list)) and len(saved[option]) == len(order):
            group[option] = tuple(saved[option][place] for place in order)
    return group
