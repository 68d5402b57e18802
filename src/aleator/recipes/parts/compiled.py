"""Calling the network through ``torch.compile``. Weights keep their names, and what is saved is the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aleator.recipes.parts.part import Act, Part

if TYPE_CHECKING:
    from aleator.recipes.parts.run import Run


@dataclass(frozen=True)
class Compile(Part):
    """Compile the network."""

    compile: bool = False
    """Compile the network's passes with torch.compile. The first steps take longer, and last bits differ."""

    def check(self) -> None:
        """Check what can be checked without data."""
        surrogate = getattr(self, "surrogate", None)
        if self.compile and surrogate is not None:
            raise ValueError("compile cannot be used with surrogate, which keeps the graph of a pass, got True")

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return the switch."""
        return [{"compile": True}]

    def act(self, run: Run) -> Act | None:
        """Return the compiler's act."""
        return _Compiled() if self.compile else None


class _Compiled(Act):
    def called(self, forward: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        return torch.compile(forward)
