"""What a claim is, and when it counts as reproduced.

A claim is about the paired difference d = a − b of the headline metric between two variants on the test set, over
seeds, with its 95 % paired-t interval [low, high]:

    at least t:   reproduced  low ≥ t and low > 0    partly  low > 0       not  otherwise
    no less than −t:          low ≥ −t               partly  d ≥ −t
    equal within t:           −t ≤ low, high ≤ t     partly  |d| ≤ t

Thresholds are in the metric's own unit (0.14 is 14 points of accuracy). They are written here before the figures are
known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Scale = Literal["laptop", "gpu"]
Verdict = Literal["reproduced", "partly", "not", "not run"]


@dataclass(frozen=True)
class Claim:
    """A statement about the difference between two variants.

    Attributes:
        text: the statement in words.
        a: the variant it is about.
        b: the baseline.
        relation: which of the three forms it has.
        threshold: the t of that form.
    """

    text: str
    a: str
    b: str
    relation: Literal["at least", "no less than", "equal within"]
    threshold: float

    def verdict(self, difference: float, interval: Sequence[float] | None, *, constant: bool = False) -> Verdict:
        """Judge the measured difference. Without an interval (one seed) nothing is reproduced.

        Args:
            difference: mean of a − b.
            interval: of it.
            constant: whether the difference was the same in every one of several seeds, so that it has no spread that
                an interval could come from. Runs that are the same computation differ by 0 every time.
        """
        low, high = (difference, difference) if constant else interval or (float("-inf"), float("inf"))
        t = self.threshold
        if self.relation == "at least":
            return "reproduced" if low >= t and low > 0 else "partly" if low > 0 else "not"
        if self.relation == "no less than":
            return "reproduced" if low >= -t else "partly" if difference >= -t else "not"
        return "reproduced" if -t <= low and high <= t else "partly" if abs(difference) <= t else "not"


@dataclass(frozen=True)
class Experiment:
    """One comparison and the claims that are read off it.

    Attributes:
        name: of its folder under ``out/evidence/METHOD``.
        data: what it was measured on, in words.
        arguments: of ``aleator compare``, without ``--out``.
        claims: judged on its ``comparison.json``.
        scale: ``"gpu"`` experiments run only when asked for.
    """

    name: str
    data: str
    arguments: tuple[str, ...]
    claims: tuple[Claim, ...]
    scale: Scale = "laptop"

    @property
    def command(self) -> list[str]:
        """The command that anyone can run."""
        return ["aleator", "compare", *self.arguments]


def pair(comparison: dict[str, Any], a: str, b: str) -> dict[str, Any]:
    """Return the paired difference of two variants, whichever way round the comparison holds it."""
    for found in comparison["pairs"]:
        if (found["a"], found["b"]) == (a, b):
            return dict(found)
        if (found["a"], found["b"]) == (b, a):
            low_high = found["interval"]
            turned = [-low_high[1], -low_high[0]] if low_high else None
            return {**found, "a": a, "b": b, "mean_difference": -found["mean_difference"], "interval": turned}
    raise KeyError(f"the comparison has no pair {a}, {b}")
