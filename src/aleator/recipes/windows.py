"""Which windows of which domain a step of the recipe ``language`` sees.

A window is a start inside the training bytes of a domain. Here every window of the union is as likely as any other: a
domain is drawn with probability n_i / Σ n_j, n_i being the number of its windows, and a start uniformly within it. The
windows of step t are a function of one key and t. All ranks compute the same global batch and take their slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor


class ProportionalWindows:
    """Draws the global batch of every step with replacement, in proportion to the sizes of the domains.

    Args:
        sizes: for each domain how many windows it has, each at least 1.
        batch_size: windows of a global batch, a multiple of ``num_replicas``.
        generator: one number is drawn from it now, the key of all that follows.
        num_replicas: processes that share a batch.
        rank: which of them this is; it gets every ``num_replicas``-th window.

    Raises:
        ValueError: if the batch size is not a positive multiple of the processes.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        batch_size: int,
        *,
        generator: torch.Generator,
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        if batch_size < 1 or batch_size % num_replicas:
            raise ValueError(f"batch_size must be a multiple of the {num_replicas} processes, got {batch_size}")
        self.batch_size, self.num_replicas, self.rank = batch_size, num_replicas, rank
        self._sizes = np.asarray(sizes, dtype=np.int64)
        self._ends = self._sizes.cumsum()
        self._key = int(torch.randint(2**63 - 1, (), generator=generator))
        self._step = 0

    def take(self) -> tuple[Int64[Tensor, " share"], Int64[Tensor, " share"]]:
        """Return this rank's (domains, starts) of the next step."""
        # A counter-based generator: step t costs the same whether or not t − 1 was drawn.
        drawn = np.random.Generator(np.random.Philox(key=[self._key, self._step]))
        self._step += 1
        windows = drawn.integers(self._ends[-1], size=self.batch_size)[self.rank :: self.num_replicas]
        domains = np.searchsorted(self._ends, windows, side="right")
        return torch.from_numpy(domains), torch.from_numpy(windows - (self._ends - self._sizes)[domains])

    def state_dict(self) -> dict[str, Any]:
        """Return the key and the next step."""
        return {"key": self._key, "step": self._step}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called, with any number of ranks."""
        self._key, self._step = state["key"], state["step"]
