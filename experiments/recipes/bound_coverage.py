"""The coverage of one-sided bounds on the accuracy, and their distance from the truth's estimate.

Test sets of n examples are simulated for a model whose true accuracy is p. A bound must lie below p in at least a share
1 − δ of them; among those that do, the nearer to the estimate the better. Wald's bound, p̂ − z √(p̂(1−p̂)/n), is the one
that is often seen and does not hold.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator
from scipy.stats import norm

from aleator.experiment import Budget, Headline, Split, StepResult
from aleator.random import Streams
from aleator.stats import accuracy_bound

DELTA = 0.05


@dataclass(frozen=True)
class BoundCoverage:
    """Simulate test sets and count how often a lower bound is below the true accuracy."""

    method: Literal["clopper_pearson", "hoeffding", "kl", "empirical_bernstein", "wilson", "wald"] = "clopper_pearson"
    """The bound."""
    accuracy: float = 0.97
    """True accuracy p."""
    n: int = 200
    """Examples of a test set."""
    simulations: int = 20_000
    """Test sets."""

    def task(self, streams: Streams, accelerator: Accelerator) -> BoundCoverageTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        return BoundCoverageTask(self, streams)


class BoundCoverageTask:
    """Simulations in ten parts; see `aleator.experiment.Task`."""

    headline = Headline("coverage", "max")

    def __init__(self, options: BoundCoverage, streams: Streams) -> None:
        self.options = options
        self.budget = Budget(10, "steps")
        self.evaluate_every = 10
        self.rng = streams.numpy("test-sets")
        self.bounds = np.array([lower_bound(options.method, k, options.n) for k in range(options.n + 1)])
        self.done, self.held, self.width = 0, 0, 0.0

    def train_batches(self) -> Iterator[int]:
        """Yield the sizes of the parts that are left."""
        part = self.options.simulations // 10
        while self.done < self.options.simulations:
            yield part

    def train_step(self, batch: int) -> StepResult:
        """Simulate one part."""
        k = self.rng.binomial(self.options.n, self.options.accuracy, batch)
        bound = self.bounds[k]
        self.held += int((bound <= self.options.accuracy).sum())
        self.width += math.fsum(k / self.options.n - bound)
        self.done += batch
        return StepResult({}, examples=batch)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return coverage and mean width so far; validation and test are the same."""
        return {"coverage": self.held / max(self.done, 1), "width": self.width / max(self.done, 1)}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"done": self.done, "held": self.held, "width": self.width}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.done, self.held, self.width = state["done"], state["held"], state["width"]


def lower_bound(method: str, k: int, n: int) -> float:
    """Return the one-sided bound of the library, or Wald's."""
    if method == "wald":
        p = k / n
        return float(p - norm.isf(DELTA) * math.sqrt(p * (1 - p) / n))
    bound = accuracy_bound(k, n, DELTA, method).bound  # type: ignore[arg-type]
    assert isinstance(bound, float)
    return bound
