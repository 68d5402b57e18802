"""Effects of several arms against one baseline, over paired seeds and, where they are known, test examples.

An effect is the mean over n seeds of the differences between an arm and the baseline that had the same seed. With
y(i, j) the result of seed i and arm j, the baseline among the arms, the variance of differences over seeds is that of a
two-way layout,

    y(i, j) = seed(i) + arm(j) + e(i, j),      s²(seeds) = 2 · residual sum of squares / (cells − seeds − arms + 1),

pooled over all arms, unless the variances of the arms' own differences lie more than a factor of 4 apart, or are on
average more than 1.5 times the pooled one, as where arms resemble each other more than the baseline or the baseline is
the most uncertain of all; then each arm has its own. Pooling buys degrees of freedom where they are few (4 arms on 8
seeds: 28 in the place of 7). Where all differences are equal, the metric was too coarse to show their spread: rounding
to a tick has the deviation tick/√12, which is the least spread.

Seeds share their test examples, so a spread over seeds alone speaks of *this* training and test set. With the
difference D(i, e) of every seed i and example e, n × N of them, both are drawn from a population, and

    se² = s²(seeds)/n + s²(examples)/N − s²(rest)/(n N),     at least the first term,

where s²(seeds) is the variance of the seeds' means, s²(examples) that of the examples' means and s²(rest) the residual
mean square; the last is in both of the others and is taken away once. Degrees of freedom are Satterthwaite's,
se⁴ / Σ term²/df. (Crossed random effects: S. R. Searle, G. Casella and C. E. McCulloch, Variance Components, 1992,
chapter 4; F. E. Satterthwaite, Biometrics Bulletin 2, 1946.) The training set is one in either case.

Intervals hold together: of m arms ever confirmed, each has the level 1 − α_k/m (Bonferroni), with α_k = α/2^k at the
k-th look, so that the probability of any false claim over all looks is at most Σ α/2^k = α. An arm is claimed exactly
where its interval excludes 0, and a claim once made stays, with the interval of its look.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from aleator.stats.intervals import Interval, _checked_level, spread

if TYPE_CHECKING:
    from typing import Self

Array = NDArray[np.float64]

LARGEST_RATIO = 4.0
"""Variances of paired differences that are further apart than this are not pooled."""
LARGEST_EXCESS = 1.5
"""Nor are those whose mean is larger than the pooled variance by more than this factor: the layout does not hold."""


@dataclass(frozen=True)
class ExampleResults:
    """The headline of one run, test example by test example.

    Attributes:
        values: of each example, in the order of the test set; shape (N,).
        counts: what each value is a sum over, such as the tokens of a text; None where each counts once. The headline
            is Σ values / Σ counts.
    """

    values: Array
    counts: Array | None = None


@dataclass(frozen=True)
class ArmResults:
    """What the confirming runs of an arm found.

    Attributes:
        values: the headline on test data, by seed.
        examples: the same by example, for the seeds that kept it. They are used where all seeds of an arm and the
            baseline have them, and of the same examples.
    """

    values: Mapping[int, float]
    examples: Mapping[int, ExampleResults] = field(default_factory=dict)


@dataclass(frozen=True)
class Effect:
    """What is known of an arm against the baseline. More is better, whichever direction the metric has.

    Attributes:
        arm: its name.
        gain: mean improvement over the seeds.
        interval: of the true improvement, holding together with those of the other arms; None where there is one seed,
            or nothing says how far the results spread.
        seeds: that both have finished.
        examples: test examples that the interval includes; None where it speaks of this test set only.
        variance_of_seeds: s²(seeds)/n.
        variance_of_examples: what the examples add to it, not below 0; None without per-example results.
        df: degrees of freedom of the interval.
        level: of the interval, 1 − α_k/m.
        pooled: whether the spread over seeds is that of all arms.
        look: at which the interval was computed, from 1.
    """

    arm: str
    gain: float
    interval: Interval | None
    seeds: int
    examples: int | None
    variance_of_seeds: float | None
    variance_of_examples: float | None
    df: float | None
    level: float
    pooled: bool
    look: int

    @property
    def claim(self) -> Literal["better", "worse"] | None:
        """What is claimed: exactly what the interval says about 0."""
        if self.interval is None:
            return None
        low, high = self.interval
        return "better" if low > 0 else "worse" if high < 0 else None

    @property
    def examples_outweigh(self) -> bool:
        """Whether the test examples make the larger part of the variance: more seeds will not help."""
        if self.variance_of_examples is None or self.variance_of_seeds is None:
            return False
        return self.variance_of_examples > self.variance_of_seeds

    @classmethod
    def read(cls, entry: Mapping[str, Any]) -> Self:
        """Return the effect that ``dataclasses.asdict`` turned into plain values, for instance for a JSON file."""
        interval = entry["interval"]
        return cls(**{**entry, "interval": None if interval is None else (float(interval[0]), float(interval[1]))})


def level_of_look(alpha: float, look: int) -> float:
    """Return α/2^k, the probability of any false claim that the k-th look may spend.

    Args:
        alpha: of all looks together, in (0, 1).
        look: k, from 1.

    Raises:
        ValueError: if either is out of range.
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    if look < 1:
        raise ValueError(f"look must be at least 1, got {look}")
    return alpha * 0.5**look


def arm_effects(
    baseline: ArmResults,
    arms: Mapping[str, ArmResults],
    *,
    alpha: float = 0.05,
    look: int = 1,
    direction: Literal["max", "min"] = "max",
    tick: float | None = None,
    kept: Sequence[Effect] = (),
    family: Collection[str] = (),
) -> dict[str, Effect]:
    """Return the effect of every arm that was ever confirmed, in the order given.

    Args:
        baseline: the tuned baseline; arms are compared with it on the seeds that both have.
        arms: every arm ever confirmed, those of earlier looks included. An arm may have joined late, with seeds of its
            own.
        alpha: probability of any false claim, over all looks.
        look: which look this is, from 1.
        direction: whether more or less of the metric is better.
        tick: the smallest step of the metric, such as 1/N for the accuracy on N examples; None where it has none.
        kept: effects of the last look. Those that claim something stay as they are.
        family: names of further arms whose confirmation was begun, such as those whose runs failed: they count, too.

    Raises:
        ValueError: if a value is not finite, an arm shares no seed with the baseline, or a number is out of range.
    """
    spent = level_of_look(alpha, look)
    if tick is not None and not (tick > 0 and math.isfinite(tick)):
        raise ValueError(f"tick must be a positive number or None, got {tick}")
    claimed = {effect.arm: effect for effect in kept if effect.claim is not None}
    level = 1 - spent / max(1, len({*arms, *claimed, *family}))
    sign = 1.0 if direction == "max" else -1.0
    differences = {name: _differences(name, arm, baseline, sign) for name, arm in arms.items()}
    least = 0.0 if tick is None else tick**2 / 12
    variances, pooled = _variances_over_seeds(baseline, arms, differences, least)
    effects = {}
    for name, arm in arms.items():
        if name in claimed:
            effects[name] = claimed[name]
            continue
        over_seeds = variances[name]
        table = _table(arm, baseline, tuple(differences[name]), sign)
        effects[name] = _effect(name, list(differences[name].values()), over_seeds, table, level, pooled, look)
    return effects | {name: effect for name, effect in claimed.items() if name not in effects}


def new_data_interval(a: ArmResults, b: ArmResults, level: float = 0.95) -> tuple[Interval, int] | None:
    """Return the interval of a − b that includes seeds and test examples, of this pair by itself, and the examples.

    None where results by example are missing for one of the seeds that both have, or are not of the same examples, or
    there is but one such seed.

    Args:
        a: results of the one.
        b: results of the other.
        level: confidence level in (0, 1).

    Raises:
        ValueError: if they share no seed, or a value is not finite.
    """
    level = _checked_level(level)
    found = _differences("a", a, b, 1.0)
    variances, _ = _variances_over_seeds(b, {"a": a}, {"a": found}, 0.0)
    table = _table(a, b, tuple(found), 1.0)
    effect = _effect("a", list(found.values()), variances["a"], table, level, False, 1)
    if effect.interval is None or effect.examples is None:
        return None
    return effect.interval, effect.examples


def best_first(effects: Mapping[str, Effect]) -> list[Effect]:
    """Return what is claimed better, then what is not told apart, then what is worse; each with the best first."""
    rank = {"better": 0, None: 1, "worse": 2}
    return sorted(effects.values(), key=lambda effect: (rank[effect.claim], -effect.gain))


# --- the variance over seeds ---------------------------------------------------------------------------------------


def _differences(name: str, arm: ArmResults, baseline: ArmResults, sign: float) -> dict[int, float]:
    """Return by how much the arm is better, by seed."""
    found = {}
    for seed, value in arm.values.items():
        if seed not in baseline.values:
            continue
        other = baseline.values[seed]
        if not (math.isfinite(value) and math.isfinite(other)):
            raise ValueError(f"values of {name} and the baseline must be finite, got {value} and {other} for {seed=}")
        # Not −1 · (a − b): the difference of equal values is 0 and not −0.
        found[seed] = value - other if sign > 0 else other - value
    if not found:
        raise ValueError(f"{name} must share at least one seed with the baseline, got none")
    return found


def _variances_over_seeds(
    baseline: ArmResults, arms: Mapping[str, ArmResults], differences: Mapping[str, Mapping[int, float]], least: float
) -> tuple[dict[str, tuple[float, float] | None], bool]:
    """Return for each arm s²(seeds) with its degrees of freedom, None where there is none; and whether it is pooled."""
    own: dict[str, tuple[float, float] | None] = {}
    for name, found in differences.items():
        scale = max(abs(value) for seed in found for value in (arms[name].values[seed], baseline.values[seed]))
        variance = spread(list(found.values()), scale) ** 2 if len(found) > 1 else 0.0
        variance = max(variance, least)
        own[name] = (variance, len(found) - 1.0) if len(found) > 1 and variance > 0 else None
    known = [entry[0] for entry in own.values() if entry is not None]
    several = len(known) > 1 and len(known) == len(own)
    if not several or max(known) > LARGEST_RATIO * min(known):
        return own, False
    variance, df = _residual_variance(baseline, arms, differences)
    pooled = max(2 * variance, least)
    if math.fsum(known) / len(known) > LARGEST_EXCESS * pooled:
        return own, False
    return dict.fromkeys(own, (pooled, df)), True


def _residual_variance(
    baseline: ArmResults, arms: Mapping[str, ArmResults], differences: Mapping[str, Mapping[int, float]]
) -> tuple[float, float]:
    """Return the residual mean square of results by seed and arm, the baseline included, and its degrees of freedom.

    Least squares for a layout with empty cells: seeds are projected out, and one small system is solved for the arms.
    """
    seeds = sorted({seed for found in differences.values() for seed in found})
    place = {seed: index for index, seed in enumerate(seeds)}
    present, values = np.zeros((len(arms) + 1, len(seeds))), np.zeros((len(arms) + 1, len(seeds)))
    present[0], values[0] = 1.0, [baseline.values[seed] for seed in seeds]
    for row, name in enumerate(arms, start=1):
        for seed in differences[name]:
            present[row, place[seed]], values[row, place[seed]] = 1.0, arms[name].values[seed]
    counts = present.sum(0)
    centred = present * (values - (present * values).sum(0) / counts)
    normal = np.diag(present.sum(1)) - (present / counts) @ present.T
    solution = np.linalg.pinv(normal, hermitian=True) @ centred.sum(1)
    fitted = present * (solution[:, None] - (present * solution[:, None]).sum(0) / counts)
    df = float(present.sum() - len(seeds) - len(arms))
    return float(((centred - fitted) ** 2).sum() / df), df


# --- the variance over examples ------------------------------------------------------------------------------------


def _table(arm: ArmResults, baseline: ArmResults, seeds: tuple[int, ...], sign: float) -> Array | None:
    """Return the differences by seed and example, whose row means are those of the headline; None if some are missing.

    Where values are sums over counts c, the headline is a ratio r = Σv/Σc, and an example stands for its linear part
    r + (v − r c)/c̄ of it, with r the ratio over all seeds (W. G. Cochran, Sampling Techniques, 1977, section 2.11).
    """
    if len(seeds) < 2 or any(seed not in arm.examples or seed not in baseline.examples for seed in seeds):
        return None
    ours, theirs = [arm.examples[seed] for seed in seeds], [baseline.examples[seed] for seed in seeds]
    first = ours[0]
    for other in (*ours, *theirs):
        if other.values.shape != first.values.shape or not _equal_counts(other.counts, first.counts):
            return None  # they were not tested on the same examples
    if len(first.values) < 2:
        return None
    table: Array = sign * (np.stack([run.values for run in ours]) - np.stack([run.values for run in theirs]))
    if not np.isfinite(table).all():
        return None
    if first.counts is not None:
        mean_count = first.counts.mean()
        ratio = table.mean() / mean_count
        table = ratio + (table - ratio * first.counts) / mean_count
    return table


def _equal_counts(a: Array | None, b: Array | None) -> bool:
    return (a is None and b is None) or (a is not None and b is not None and np.array_equal(a, b))


def _effect(
    name: str,
    differences: Sequence[float],
    over_seeds: tuple[float, float] | None,
    table: Array | None,
    level: float,
    pooled: bool,
    look: int,
) -> Effect:
    n = len(differences)
    gain = math.fsum(differences) / n
    # Where all seeds say the same, as with a convex loss trained to its end, examples may still differ.
    seeds, df = (0.0, n - 1.0) if over_seeds is None else (over_seeds[0] / n, over_seeds[1])
    squared, examples, added = seeds, None, None
    if table is not None:
        examples = table.shape[1]
        by_example, rest, rest_df = _examples_and_rest(table)
        added = max(0.0, by_example - rest)
        if added > 0:
            squared = seeds + added
            parts = ((seeds, df), (by_example, examples - 1.0), (rest, rest_df))
            df = squared**2 / sum(part**2 / freedom for part, freedom in parts)
    if squared == 0:
        return Effect(name, gain, None, n, examples, None, None, None, level, False, look)
    half = student_quantile(level, df) * math.sqrt(squared)
    return Effect(name, gain, (gain - half, gain + half), n, examples, seeds, added, df, level, pooled, look)


def _examples_and_rest(table: Array) -> tuple[float, float, float]:
    """Return s²(examples)/N, s²(rest)/(nN) and the latter's degrees of freedom."""
    n, size = table.shape
    centred = table - table.mean(1, keepdims=True)  # seeds are taken out first: what is left is small
    by_example = centred.mean(0)
    rest_df = (n - 1.0) * (size - 1.0)
    rest = float(((centred - by_example) ** 2).sum()) / rest_df
    return float((by_example**2).sum()) / (size - 1.0) / size, rest / (n * size), rest_df


def student_quantile(level: float, df: float) -> float:
    """Return the half width of Student's central interval of a level, in standard errors."""
    from scipy.special import stdtrit

    return -float(stdtrit(df, (1 - level) / 2))
