"""Batches whose neighbours form groups: the samples of one prompt, which rewards are compared within."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor

from aleator.sde import Generator, Noise, gaussian_noise


def group_noise(
    like: Float[Tensor, "batch ..."],
    group_size: int,
    *,
    same_noise: bool = True,
    generator: Generator,
    noise: Noise = gaussian_noise,
) -> Float[Tensor, "batch ..."]:
    """Draw the states that a rollout begins with.

    Args:
        like: tells their shape, type and device.
        group_size: G.
        same_noise: give all samples of a group the first one's noise, so that only the steps tell them apart.
        generator: feeds ``noise`` and nothing else.
        noise: draws standard noise.

    Raises:
        ValueError: if the batch is no multiple of the group.
    """
    check_groups(len(like), group_size)
    z = noise(like, 0, generator)
    if same_noise:
        z = z[::group_size].repeat_interleave(group_size, 0)
    return z


def repeat_groups(cond: Any, group_size: int) -> Any:
    """Return a condition whose tensors have every row ``group_size`` times, one for each sample of its group.

    Raises:
        ValueError: if ``group_size`` is below 1, or there is a list of texts in the place of their embeddings.
    """
    if group_size < 1:
        raise ValueError(f"group_size must be at least 1, got {group_size}")
    return over_tensors(cond, lambda tensor: tensor.repeat_interleave(group_size, 0))


def take(cond: Any, samples: Int[Tensor, " some"]) -> Any:
    """Return a condition whose tensors have the rows of some samples."""
    return over_tensors(cond, lambda tensor: tensor[samples.to(tensor.device)])


def over_tensors(cond: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Return a condition with a function applied to its tensors: one, or several in mappings, lists and tuples.

    Raises:
        ValueError: if there is a list of texts alone, whose rows are not taken.
    """
    if isinstance(cond, Tensor):
        return function(cond)
    if isinstance(cond, Mapping):
        return {name: over_tensors(value, function) for name, value in cond.items()}
    if isinstance(cond, list | tuple) and cond and all(isinstance(value, str) for value in cond):
        raise ValueError(f"a condition must have tensors with a row for each sample, got texts, {list(cond)!r:.60}")
    if isinstance(cond, tuple) and hasattr(cond, "_fields"):
        return type(cond)(*(over_tensors(value, function) for value in cond))
    if isinstance(cond, list | tuple):
        return type(cond)(over_tensors(value, function) for value in cond)
    return cond


def check_groups(batch: int, group_size: int) -> None:
    """Refuse a batch that does not consist of groups.

    Raises:
        ValueError: if ``group_size`` is below 2, or the batch is no multiple of it.
    """
    if group_size < 2:
        raise ValueError(f"group_size must be at least 2, got {group_size}")
    if not batch or batch % group_size:
        raise ValueError(f"a batch must be a multiple of group_size = {group_size} on every process, got {batch}")
