"""Accuracy while the examples come in: an interval that may be looked at after every one of them.

An interval for a fixed n is wrong far more often than δ when one looks again and again and stops where it pleases. The
confidence sequence

    {p : ln B(S+1, n−S+1) − S ln p − (n−S) ln(1−p) < ln(1/δ)}         S right answers among the first n

holds at all n at once with probability 1 − δ. B is the beta function: the left side is the logarithm of a mixture of
likelihood ratios over a uniform prior, a martingale under p, which exceeds 1/δ anywhere with probability at most δ
(Ville's inequality; Robbins, Annals of Mathematical Statistics 41, 1970).

With p̂ = S/n the condition is kl(p̂‖p) < (ln(1/δ) + ln((n+1)·P[Bin(n, p̂) = S]))/n, whose terms do not cancel.
"""

from __future__ import annotations

import math
from operator import index
from typing import Any, SupportsIndex

from aleator.stats.certify.binary_kl import kl_lower, kl_upper
from aleator.stats.certify.certificate import checked_candidates, checked_count, checked_delta


class AnytimeAccuracy:
    """The accuracy of one fixed model on examples that come in.

    It covers looking and stopping at any time. It does not cover choosing among checkpoints on the same examples: that
    needs one object for each of the m checkpoints, with ``candidates=m``. On several processes, add up the two counts
    and update with the sums.

    Args:
        delta: probability in (0, 1) that any of the intervals is wrong.
        candidates: m, the models among which one may be chosen on these examples; each takes δ/m.

    Attributes:
        correct: right answers so far.
        n: examples so far.

    Raises:
        ValueError: if an argument is out of range.

    Example:
        >>> accuracy = AnytimeAccuracy(delta=0.05)
        >>> accuracy.update(9500, 10_000)
        >>> tuple(round(end, 4) for end in accuracy.interval)
        (0.9407, 0.9583)
    """

    __slots__ = ("candidates", "correct", "delta", "n")

    def __init__(self, delta: float = 0.05, candidates: SupportsIndex = 1) -> None:
        self.delta = checked_delta(delta)
        self.candidates = checked_candidates(candidates, used_for_choosing=False)
        self.correct = 0
        self.n = 0

    def update(self, correct: SupportsIndex, n: SupportsIndex) -> None:
        """Count a batch; the interval is solved only when it is read.

        Args:
            correct: right answers in the batch, a whole number in [0, n]. A tensor on another device is waited for.
            n: examples of the batch.

        Raises:
            ValueError: if a number is out of range or not whole.
        """
        # Called a million times: the two checks are written out, and made again in words where they fail.
        try:
            right, size = index(correct), index(n)
            if not 0 <= right <= size:
                raise TypeError
        except TypeError:
            size = checked_count("n", n, 0)
            right = checked_count("correct", correct, 0, size)
        self.correct += right
        self.n += size

    @property
    def interval(self) -> tuple[float, float]:
        """The interval now, (0, 1) before the first example."""
        if self.n == 0:
            return 0.0, 1.0
        from scipy.stats import binom

        p = self.correct / self.n
        likeliest = float(binom.pmf(self.correct, self.n, p))
        budget = (math.log(self.candidates / self.delta) + math.log((self.n + 1) * likeliest)) / self.n
        return kl_lower(p, budget), kl_upper(p, budget)

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and what they are for."""
        return {"correct": self.correct, "n": self.n, "delta": self.delta, "candidates": self.candidates}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from saved counts.

        Raises:
            ValueError: if they were taken for another δ or number of candidates, or are no counts.
        """
        for name in ("delta", "candidates"):
            if state[name] != getattr(self, name):
                raise ValueError(f"{name} must equal the saved {state[name]}, got {getattr(self, name)}")
        n = checked_count("n", state["n"], 0)
        self.correct, self.n = checked_count("correct", state["correct"], 0, n), n
