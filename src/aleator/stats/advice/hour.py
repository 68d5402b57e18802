"""What an hour carries: how many trials an arm, how many arms on how many seeds, decided before the first run starts.

    35 % choosing, 55 % confirming, 10 % in reserve

Of the arms that there are to confirm, as many are taken, four at most, as leave six seeds each; one alone may have
five. More than twenty seeds are not worth their time. A pair of arms that compose has a place beside them. With r
seconds a run, c arms and p ∈ {0, 1} pairs, the baseline runs on every seed too:

    seeds = ⌊confirming / (r (1 + c + p))⌋.

Trials are cut to a third from rung to rung (K. Jamieson and A. Talwalkar, Non-stochastic Best Arm Identification and
Hyperparameter Optimization, AISTATS 2016), but the runs of a rung are complete ones, with their schedule, of a third
of the length of the next rung's.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aleator.stats.advice.effects import student_quantile

CHOOSING, CONFIRMING, RESERVE = 0.35, 0.55, 0.10
MOST_CONFIRMED, SEEDS_WANTED, LEAST_SEEDS, MOST_SEEDS = 4, 6, 5, 20
MOST_TRIALS, LEAST_TRIALS = 27, 2
CUT = 3


@dataclass(frozen=True)
class Rung:
    """A round of trials.

    Attributes:
        share: of the full length, that each of its runs has.
        trials: of each arm.
    """

    share: float
    trials: int


@dataclass(frozen=True)
class Choosing:
    """How arms are tuned: all of them in the same way.

    Attributes:
        arms: how many arms there is time for, the baseline included.
        rungs: the shortest first; empty where there is no time to choose.
        seconds: that the runs take, over all workers.
    """

    arms: int
    rungs: tuple[Rung, ...]
    seconds: float

    @property
    def trials(self) -> int:
        """Trials of each arm."""
        return self.rungs[0].trials if self.rungs else 0


@dataclass(frozen=True)
class Confirming:
    """How many arms are confirmed, next to the baseline, on how many seeds; the numbers are fixed before.

    Attributes:
        arms: without the baseline and without the pair.
        pair: whether there is a place for the best pair that composes.
        seeds: of each.
        seconds: that the runs take, over all workers.
    """

    arms: int
    seeds: int
    seconds: float
    pair: bool = False


def rungs_of(trials: int, least_share: float) -> tuple[Rung, ...]:
    """Return the rungs of a number of trials, the last of full length, three at most.

    Args:
        trials: of each arm, at least 1.
        least_share: the shortest run worth the name, as a share of a full one, in (0, 1].

    Raises:
        ValueError: if either is out of range.
    """
    if trials < 1:
        raise ValueError(f"trials must be at least 1, got {trials}")
    if not 0 < least_share <= 1:
        raise ValueError(f"least_share must be in (0, 1], got {least_share}")
    kept, share, counts = trials, 1.0, [trials]
    while kept > 2 and len(counts) < 3 and share / CUT >= least_share:
        kept, share = -(-kept // CUT), share / CUT
        counts.append(kept)
    return tuple(Rung(share * CUT**index, count) for index, count in enumerate(counts))


def survivors(values: Mapping[int, float], keep: int, direction: str = "max") -> list[int]:
    """Return which trials of an arm go on to the next rung, the best first; of equal ones the earlier.

    Args:
        values: the headline on validation data, by the trial's number; a value that is not a number is worst.
        keep: how many go on.
        direction: whether more (``"max"``) or less of it is better.
    """
    sign = -1.0 if direction == "max" else 1.0

    def place(number: int) -> tuple[bool, float, int]:
        value = values[number]
        return (True, 0.0, number) if value != value else (False, sign * value, number)

    return sorted(values, key=place)[:keep]


def settled(
    values: Mapping[str, Mapping[int, float]],
    direction: str = "max",
    tick: float = 0.0,
    own_settings: Mapping[str, Mapping[int, object]] | None = None,
) -> dict[str, int]:
    """Return the best trial of each arm: by its own values, unless other arms say the contrary and may well be right.

    Trials of one number have one draw of the settings that arms share. An arm leaves the draw that is best by its own
    values for another one where the lower median over the other arms, two at least that tried both, prefers that, and
    either by more than the arm its own; or the arm's own difference of the two is no unusual one among theirs: within
    the interval, of 95 %, that theirs predict for one more, without the one that is farthest from the median. Otherwise
    luck with the settings would be confirmed as a difference of methods. An arm that does want other settings than the
    rest has them, and alone it moves neither the lower median nor the interval. Two trials of an arm that differ in its
    own settings say nothing about draws.

    Args:
        values: for each arm the headline on validation data, by the trial's number.
        direction: whether more (``"max"``) or less of it is better.
        tick: by how much values differ at least, where they differ: of an accuracy, one example.
        own_settings: for each arm, by the trial's number, what says which settings of its own a trial has; None where
            all trials of an arm have the same.
    """
    sign = 1.0 if direction == "max" else -1.0
    sound = {arm: {n: sign * v for n, v in of_arm.items() if math.isfinite(v)} for arm, of_arm in values.items()}

    def compares(arm: str, first: int, second: int) -> bool:
        of_arm = (own_settings or {}).get(arm, {})
        return first in sound[arm] and second in sound[arm] and of_arm.get(first) == of_arm.get(second)

    chosen = {}
    for arm, of_arm in sound.items():
        if not of_arm:
            continue
        own = min(of_arm, key=lambda number: (-of_arm[number], number))
        gains = {own: 0.0}
        for number in of_arm.keys() - {own}:
            others = [
                other[number] - other[own]
                for name, other in sound.items()
                if name != arm and compares(name, number, own)
            ]
            if len(others) < 2 or not compares(arm, number, own):
                continue
            middle, loss = statistics.median_low(others), of_arm[own] - of_arm[number]
            if middle > loss or abs(-loss - middle) <= _predicted(others, tick):
                gains[number] = middle
        chosen[arm] = min(gains, key=lambda number: (-gains[number], number != own, number))
    return chosen


def _predicted(others: list[float], tick: float) -> float:
    """Return how far from the median one more value may be, at 95 %; 0 where that is not known."""
    middle = statistics.median_low(others)
    near = sorted(others, key=lambda value: abs(value - middle))[:-1]
    if len(near) < 2:
        return 0.0
    spread = max(statistics.stdev(near), tick)
    return student_quantile(0.95, len(near) - 1) * spread * math.sqrt(1 + 1 / len(near))


def choosing(
    seconds: float, arms: int, run: Callable[[float], float], least_share: float = 1.0, workers: int = 1
) -> Choosing:
    """Return the choosing that fits into some seconds of all workers together.

    Args:
        seconds: of all workers.
        arms: that apply, the baseline included. The last ones are left out where there is not the time for two trials.
        run: seconds of a run of a share of the full length, whichever the arm: equal time.
        least_share: see `rungs_of`; 1 makes every trial a run of full length.
        workers: that run at once; where the runs of a rung are no multiple of them, some have nothing to do at its end.
    """

    def price(count: int, trials: int) -> float:
        return sum(_occupied(count * rung.trials, workers) * run(rung.share) for rung in rungs_of(trials, least_share))

    for count in range(arms, 1, -1):
        affordable = [n for n in range(LEAST_TRIALS, MOST_TRIALS + 1) if price(count, n) <= seconds * (1 + 1e-9)]
        if affordable:
            return Choosing(count, rungs_of(affordable[-1], least_share), price(count, affordable[-1]))
    return Choosing(0, (), 0.0)


def confirming(seconds: float, arms: int, run: float, pair: bool = False, workers: int = 1) -> Confirming:
    """Return as many arms as leave six seeds each, or one with five; none where there is no time for that.

    Args:
        seconds: of all workers together.
        arms: that there are to confirm.
        run: seconds of a run of any arm, positive.
        pair: whether some two of the arms compose; the pair has a run on every seed where two arms or more are
            confirmed.
        workers: that run at once.

    Raises:
        ValueError: if ``run`` is not positive.
    """
    if not run > 0:
        raise ValueError(f"run must be a positive number of seconds, got {run}")
    for count in range(min(arms, MOST_CONFIRMED), 0, -1):
        with_pair = pair and count > 1
        runs = 1 + count + with_pair
        seeds = min(MOST_SEEDS, int(seconds / (run * runs) + 1e-9))
        while _occupied(seeds * runs, workers) * run > seconds * (1 + 1e-9):
            seeds -= 1
        if seeds >= (SEEDS_WANTED if count > 1 else LEAST_SEEDS):
            return Confirming(count, seeds, seeds * runs * run, with_pair)
    return Confirming(0, 0, 0.0)


def minutes_for_one(run: float, workers: int = 1, choosing_seconds: float = 0.0) -> float:
    """Return how many minutes would be enough to confirm one arm on six seeds.

    Args:
        run: seconds of a run.
        workers: that run at once.
        choosing_seconds: that choosing takes at least, over all workers.
    """
    confirming_seconds = _occupied(2 * SEEDS_WANTED, workers) * run
    return max(confirming_seconds / CONFIRMING, choosing_seconds / CHOOSING) / workers / 60


def _occupied(runs: int, workers: int) -> int:
    """Return for how many runs workers are occupied, or wait for the last ones: a multiple of their number."""
    return -(-runs // workers) * workers
