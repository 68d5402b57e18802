"""The arithmetic of a reduced training budget.

Training for X rounds on m = round(r·N) of N examples a round, in batches of b, takes

    T = X · floor(m / b)  steps when the last short batch is dropped,  X · ceil(m / b)  otherwise,

and a learning-rate schedule must have this length, not the length for the full data. After X rounds the expected share
of the N examples that was drawn at least once is 1 − (1 − m/N)^X if rounds are independent, and min(1, mX/N) if they
partition permutations.

P. Okanovic et al., "Repeated Random Sampling for Minimizing the Time-to-Accuracy of Learning", ICLR 2024,
arXiv 2305.18424.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any


def subset_size(n: int, ratio: float) -> int:
    """Return m = round(ratio·n), with halves rounded to even as the authors' code does.

    Raises:
        ValueError: if n is not positive, the ratio is outside (0, 1], or m is 0.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    if not 0 < ratio <= 1:
        raise ValueError(f"ratio must be in (0, 1], got {ratio}")
    size = round(ratio * n)
    if size == 0:
        raise ValueError(f"ratio must select at least one of the {n} examples, got {ratio}")
    return size


@dataclass(frozen=True)
class BudgetPlan:
    """What a number of rounds on a share of the data amounts to.

    With several processes ``batch_size`` is the global batch; with gradient accumulation it is what one optimizer step
    sees, so that ``total_steps`` counts optimizer steps.

    Attributes:
        n: number of examples N.
        ratio: share r of the examples in a round, in (0, 1].
        rounds: number of rounds X, at least 1.
        batch_size: examples b per step, at least 1.
        drop_last: whether a round's last short batch is dropped.

    Raises:
        ValueError: if a value is out of its range, or the batch is larger than the subset and would be dropped.

    Example:
        >>> plan = BudgetPlan(n=50_000, ratio=0.1, rounds=200, batch_size=128)
        >>> plan.steps_per_round, plan.total_steps
        (39, 7800)
    """

    n: int
    ratio: float
    rounds: int
    batch_size: int
    drop_last: bool = True

    def __post_init__(self) -> None:
        size = subset_size(self.n, self.ratio)
        if self.rounds < 1:
            raise ValueError(f"rounds must be at least 1, got {self.rounds}")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        if self.drop_last and self.batch_size > size:
            raise ValueError(
                f"batch_size must be at most {size}, the examples of a round, when the last short batch is dropped, "
                f"got {self.batch_size}"
            )

    @property
    def subset_size(self) -> int:
        """Examples drawn in a round, m."""
        return subset_size(self.n, self.ratio)

    @property
    def steps_per_round(self) -> int:
        """Batches in a round."""
        return self.subset_size // self.batch_size if self.drop_last else -(-self.subset_size // self.batch_size)

    @property
    def total_steps(self) -> int:
        """Steps of the whole training, T: the length that a schedule should have."""
        return self.rounds * self.steps_per_round

    @property
    def examples(self) -> int:
        """Examples trained on; repetitions count, the examples of dropped batches do not."""
        per_round = self.steps_per_round * self.batch_size if self.drop_last else self.subset_size
        return self.rounds * per_round

    @property
    def equivalent_epochs(self) -> float:
        """``examples`` in passes over the full data."""
        return self.examples / self.n

    def coverage(self, replacement_between_rounds: bool) -> float:
        """Return the expected share of the N examples, in (0, 1], that the rounds draw at least once.

        Drawn, not trained on: the examples of dropped short batches are counted. Without replacement it is the coverage
        of ``tail="carry"``.
        """
        if replacement_between_rounds:
            return 1 - (1 - self.subset_size / self.n) ** self.rounds
        return min(1.0, self.subset_size * self.rounds / self.n)

    def check(self, schedule: Any) -> None:
        """Warn if a learning-rate schedule does not end where this plan ends.

        Args:
            schedule: an object with an attribute ``total_steps``, such as `aleator.optim.CosineToBudget` or torch's
                ``OneCycleLR``, or ``T_max``, such as torch's ``CosineAnnealingLR``.

        Raises:
            TypeError: if it has neither.
        """
        length = getattr(schedule, "total_steps", None) or getattr(schedule, "T_max", None)
        if length is None:
            raise TypeError(f"schedule must have an attribute total_steps or T_max, got {type(schedule).__name__}")
        if length != self.total_steps:
            warnings.warn(
                f"the schedule ends after {length} steps, the plan after {self.total_steps}: a schedule "
                "fitted to another budget loses most of what repeated random sampling gains",
                stacklevel=2,
            )
