"""Systems that imitation acts in: something that a policy moves through, with an expert that can be asked."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

Policy = Callable[[Tensor], Tensor]
"""From observations [n, observations] to actions [n, actions]."""


@runtime_checkable
class System(Protocol):
    """Something to act in, with an expert."""

    observations: int
    actions: int

    def collect(self, policy: Policy) -> tuple[Float[Tensor, "n observations"], Float[Tensor, "n actions"]]:
        """Act in a round; return what was observed and what the expert would have done."""
        ...

    def measure(self, policy: Policy) -> dict[str, float]:
        """Return figures of a policy that are not taken from rounds; the same starts every time."""
        ...
