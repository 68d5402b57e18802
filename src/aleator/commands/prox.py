"""``aleator prox report``: which weights of a model a penalty has set to zero, and which units could be cut away."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aleator.commands import verbs
from aleator.commands.table import write_lines, write_table
from aleator.commands.weights_file import read_weights

if TYPE_CHECKING:
    from torch import Tensor

    from aleator.optim.proximal.sparsity import Sparsity

SAVED = "model.safetensors"


@dataclass(frozen=True)
class Report:
    """Count the weights that are exactly zero, and whole slices of them, for every tensor of a model."""

    weights: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="WEIGHTS")]
    """A file of weights (safetensors), or the folder of a run."""
    dim: int = 0
    """The dimension whose slices are counted: 0 are units or filters, 1 their inputs."""


VERBS: dict[str, type[Any]] = {"report": Report}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return verbs.options(VERBS)


def main(args: Sequence[str]) -> int:
    """Carry out the verb and return its exit code."""
    asked = verbs.chosen("prox", VERBS, args, "What proximal steps leave of a model.")
    if asked is None:
        return 0
    return report(asked[1])


def report(chosen: Report) -> int:
    """Write a table of the tensors and what they are together.

    Raises:
        ValueError: if there are no weights at the place, some are packed two in a byte, or ``dim`` is negative.
    """
    from aleator.optim.proximal.sparsity import Sparsity, sparsity

    if chosen.dim < 0:
        raise ValueError(f"dim must be at least 0, got {chosen.dim}")
    path = chosen.weights / SAVED if chosen.weights.is_dir() else chosen.weights
    weights = {name: _comparable(name, tensor) for name, tensor in read_weights(path).items()}
    found = sparsity(weights.items(), chosen.dim)
    total = sum(found.values(), Sparsity(0, 0, 0, 0))
    rows = [(name, " × ".join(map(str, weights[name].shape)) or "1", *_shares(each)) for name, each in found.items()]
    headings = ("tensor", "shape", "zeros", "share", "zero slices", "share of slices")
    write_table("", headings, [*rows, ("together", "", *_shares(total))])
    broken = sorted(name for name, tensor in weights.items() if not bool(tensor.isfinite().all()))
    if broken:
        write_lines(f"not all numbers are finite in {', '.join(broken)}")
    return 0


def _shares(found: Sparsity) -> tuple[str, str, str, str]:
    return (
        f"{found.zeros} of {found.entries}",
        f"{100 * found.share:.1f} %",
        f"{found.zero_slices} of {found.slices}",
        f"{100 * found.share_of_slices:.1f} %",
    )


def _comparable(name: str, tensor: Tensor) -> Tensor:
    """Return a tensor, one of 8-bit floating-point numbers in float32: torch can do little with those."""
    if not tensor.is_floating_point() or tensor.element_size() > 1:
        return tensor
    try:
        return tensor.float()
    except NotImplementedError:
        raise ValueError(f"tensors must hold a number in a byte or more, got {tensor.dtype} in {name}") from None
