"""Decisions that all processes of a run take alike.

When to stop, whether to save, whether a loss was finite: one process may see it first, but all have to act at the same
step, or the collectives of the next step wait for ever. One integer is reduced over a group of its own on the CPU, so
that agreeing never waits for an accelerator. With one process there is nothing to agree on and nothing is sent.
"""

from __future__ import annotations

import torch
import torch.distributed as dist


class Agreement:
    """Reductions of one integer over the processes of the run. Every process has to call them in the same order.

    Args:
        num_processes: how many processes the run has.
    """

    def __init__(self, num_processes: int) -> None:
        self._group = dist.new_group(backend="gloo") if num_processes > 1 else None

    def close(self) -> None:
        """End the group and its threads."""
        if self._group is not None:
            dist.destroy_process_group(self._group)
            self._group = None

    def maximum(self, value: int) -> int:
        """Return the largest of the values that the processes gave."""
        return self._reduced(value, dist.ReduceOp.MAX)

    def total(self, value: int) -> int:
        """Return the sum of the values that the processes gave."""
        return self._reduced(value, dist.ReduceOp.SUM)

    def _reduced(self, value: int, operation: dist.ReduceOp.RedOpType) -> int:
        if self._group is None:
            return value
        number = torch.tensor(value)
        dist.all_reduce(number, operation, group=self._group)
        return int(number)
