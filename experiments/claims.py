"""Claims, and the rule by which one counts as reproduced.

A claim is about the paired difference d between two variants on the test set, over seeds: by how much a is better than
b, which is a − b where more is better and b − a where less is. With its 95 % paired-t interval [low, high]:

    at least t:   reproduced  low ≥ t and low > 0    partly  low > 0       not  otherwise
    no less than −t:          low ≥ −t               partly  d ≥ −t
    equal within t:           −t ≤ low, high ≤ t     partly  |d| ≤ t

A claim over several pairs of variants is judged by a sign test: in which share of the cells (pair, seed) is a better
than b? Cells that tie are left out, and the share has its exact 95 % binomial interval [low, high]:

    more often than t:        low > t                partly  share > t     not  otherwise

With t = 1/2, low > t says that the two-sided p-value of the sign test is below 0.05. It takes the cells for
independent, though cells of one seed share their data.

Instead of a variant, b may be a number: then d is by how much a is better than that.

Thresholds are in the metric's own unit (0.14 is 14 points of accuracy). They are written here before the figures are
known. Where a claim is about the best of a grid, validation data says which one that is, and test data only judges it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from aleator.experiment import Headline
from aleator.stats import PairedDifference, clopper_pearson, paired_difference

Scale = Literal["laptop", "gpu"]
Verdict = Literal["reproduced", "partly", "not", "not run"]


@dataclass(frozen=True)
class BestOf:
    """The one of several variants that has the best mean headline on validation data at the end of its runs.

    Attributes:
        name: what the evidence calls it.
        variants: among which it is chosen.
        metric: by which it is chosen; the comparison's headline when None.
    """

    name: str
    variants: tuple[str, ...]
    metric: Headline | None = None

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True)
class AllOf:
    """Several variants, each with its counterpart on the other side of a claim.

    Attributes:
        name: what the evidence calls them.
        variants: in the order of their counterparts.
    """

    name: str
    variants: tuple[str, ...]

    def __str__(self) -> str:
        return self.name


Side = str | BestOf | AllOf


@dataclass(frozen=True)
class Claim:
    """A statement about the difference between two variants, or about wins over pairs of them.

    Attributes:
        text: the statement in words.
        a: the variant it is about; an `AllOf` with "more often than", and only there.
        b: the baseline, or a number that the metric is compared with; an `AllOf` where a is one.
        relation: which of the four forms it has.
        threshold: the t of that form.
        metric: what is compared; the comparison's headline when None.
    """

    text: str
    a: Side
    b: Side | float
    relation: Literal["at least", "no less than", "equal within", "more often than"]
    threshold: float
    metric: Headline | None = None

    def verdict(self, difference: float, interval: Sequence[float] | None, *, constant: bool = False) -> Verdict:
        """Judge the measured difference. Without an interval (one seed) nothing is reproduced.

        Args:
            difference: mean of a − b, or the share of cells won.
            interval: of it.
            constant: whether the difference was the same in every one of several seeds, so that it has no spread that
                an interval could come from. Runs that are the same computation differ by 0 every time.
        """
        low, high = (difference, difference) if constant else interval or (float("-inf"), float("inf"))
        t = self.threshold
        if self.relation == "more often than":
            return "reproduced" if low > t else "partly" if difference > t else "not"
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


@dataclass(frozen=True)
class Finding:
    """What a comparison says about a claim.

    Attributes:
        metric: what was compared.
        a: the variant that stands for the claim's a, chosen where that is the best of several.
        b: the same of b, or the number.
        means: the metric's mean over seeds on test data, of a and of b, or the number.
        differences: by how much a is better than b, seed by seed.
        difference: what they say together.
    """

    metric: Headline
    a: str
    b: str
    means: tuple[float, float]
    differences: tuple[float, ...]
    difference: PairedDifference


@dataclass(frozen=True)
class Wins:
    """How the cells (pair, seed) of two sides fell out.

    Attributes:
        metric: what was compared.
        a: the cells in which a was better.
        b: those in which b was; ties are in neither.
        seeds: of every pair.
    """

    metric: Headline
    a: int
    b: int
    seeds: int

    @property
    def share(self) -> float:
        """The share of a in the cells that did not tie; one half where all did."""
        return self.a / (self.a + self.b) if self.a + self.b else 0.5

    @property
    def interval(self) -> tuple[float, float] | None:
        """The exact 95 % interval of the share, by Clopper and Pearson."""
        return clopper_pearson(self.a, self.a + self.b) if self.a + self.b else None


def count_wins(claim: Claim, comparison: dict[str, Any]) -> Wins:
    """Read off a comparison what a claim over pairs is judged by.

    Raises:
        ValueError: if the sides are not as many variants each.
        KeyError: if the comparison lacks a variant or the metric.
    """
    if not (isinstance(claim.a, AllOf) and isinstance(claim.b, AllOf)):
        raise ValueError(f"a and b must be an AllOf for wins over pairs, got {claim.a!r} and {claim.b!r}")
    pairs = zip(claim.a.variants, claim.b.variants, strict=True)
    found = [find(Claim(claim.text, a, b, "at least", 0.0, claim.metric), comparison) for a, b in pairs]
    differences = [difference for finding in found for difference in finding.differences]
    won, lost = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    return Wins(found[0].metric, won, lost, found[0].difference.n)


def find(claim: Claim, comparison: dict[str, Any]) -> Finding:
    """Read off a comparison what a claim about two variants is judged by.

    Raises:
        KeyError: if the comparison lacks a variant or the metric.
    """
    headline = Headline(**comparison["headline"])
    metric = claim.metric or headline
    variants = {variant["name"]: variant for variant in comparison["variants"]}
    a = _chosen(claim.a, variants, headline)
    of_a = _by_seed(variants[a], metric)
    mean_of_a = variants[a]["summary"][metric.name]["mean"]
    if isinstance(claim.b, (int, float)):
        b, of_b, mean_of_b = f"{claim.b:g}", dict.fromkeys(of_a, claim.b), claim.b
    else:
        b = _chosen(claim.b, variants, headline)
        of_b, mean_of_b = _by_seed(variants[b], metric), variants[b]["summary"][metric.name]["mean"]
    shared = [seed for seed in of_a if seed in of_b]
    better, worse = (of_a, of_b) if metric.direction == "max" else (of_b, of_a)
    difference = paired_difference([better[seed] for seed in shared], [worse[seed] for seed in shared])
    differences = tuple(better[seed] - worse[seed] for seed in shared)
    return Finding(metric, a, b, (mean_of_a, mean_of_b), differences, difference)


def _by_seed(variant: dict[str, Any], metric: Headline) -> dict[int, float]:
    return {run["seed"]: run["test"][metric.name] for run in variant["runs"]}


def _chosen(side: Side, variants: dict[str, Any], headline: Headline) -> str:
    if isinstance(side, str):
        return side
    if isinstance(side, AllOf):
        raise ValueError(f"a side must be one variant or the best of several, got {side!r}")
    headline = side.metric or headline
    best, value = side.variants[0], _validation(variants[side.variants[0]], headline)
    for name in side.variants[1:]:
        if headline.better(found := _validation(variants[name], headline), value):
            best, value = name, found
    return best


def _validation(variant: dict[str, Any], headline: Headline) -> float:
    values = [run["validation"][headline.name] for run in variant["runs"]]
    return math.fsum(values) / len(values)
