"""Digits with methods that do nothing: each renames the seed, so that its runs differ by chance alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aleator.random import Streams
from aleator.recipes.classify import Classify

if TYPE_CHECKING:
    from accelerate import Accelerator

METHODS = 4


@dataclass(frozen=True)
class RenamedDigits(Classify):
    """The recipe ``classify``, in which a seed has many names."""

    name_of_seed: int = 0
    """Which name; runs of one seed with different names have nothing in common but the data."""

    def task(self, streams: Streams, accelerator: Accelerator) -> Any:
        """Build the task, with streams of its own: a run that is broken off does not go on as it would have."""
        return super().task(Streams(streams.key("renamed", self.name_of_seed)), accelerator)

    def arms_by_part(self) -> dict[str, Sequence[Mapping[str, Any]]]:
        """Return the names."""
        return {f"name {number}": [{"name_of_seed": self.name_of_seed + number}] for number in range(1, METHODS + 1)}
