"""What the time carries: how many trials, how many arms confirmed on how many seeds. Decided before it is spent.

    35 % choosing, 55 % confirming, 10 % in reserve

Choosing gets more where confirming cannot use its share, because 20 seeds are the most. The trials of an arm are halved
(here: cut to a third) from rung to rung; the runs of a rung are complete ones of a third of the next rung's length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

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


def rungs_of(trials: int, least_share: float) -> tuple[Rung, ...]:
    """Return the rungs of a number of trials.

    Args:
        trials: of each arm.
        least_share: the shortest run worth the name, as a share of a full one.
    """
    kept, share, rungs = trials, 1.0, [trials]
    while kept > 2 and len(rungs) < 3 and share / CUT >= least_share:
        kept, share = -(-kept // CUT), share / CUT
        rungs.append(kept)
    return tuple(Rung(share * CUT**index, count) for index, count in enumerate(rungs))


def choosing(seconds: float, arms: int, run: Callable[[float], float], least_share: float) -> Choosing:
    """Return the choosing that fits into some seconds of all workers together.

    Args:
        seconds: of all workers.
        arms: that apply, the baseline included. The last ones are left out where there is not the time for two trials.
        run: seconds of a run of a share of the full length, whichever the arm: equal time.
        least_share: see `rungs_of`.
    """

    def price(count: int, trials: int) -> float:
        return count * sum(rung.trials * run(rung.share) for rung in rungs_of(trials, least_share))

    for count in range(arms, 1, -1):
        affordable = [n for n in range(LEAST_TRIALS, MOST_TRIALS + 1) if price(count, n) <= seconds]
        if affordable:
            return Choosing(count, rungs_of(affordable[-1], least_share), price(count, affordable[-1]))
    return Choosing(0, (), 0.0)


@dataclass(frozen=True)
class Confirming:
    """How many arms are confirmed, next to the baseline, on how many seeds; the numbers are fixed before."""

    arms: int
    seeds: int
    seconds: float


def confirming(seconds: float, arms: int, run: float) -> Confirming:
    """Return as many arms as leave six seeds each, or one with five; none where there is no time for that.

    Args:
        seconds: of all workers together.
        arms: that there are to confirm.
        run: seconds of a run of any arm.
    """
    for count in range(min(arms, MOST_CONFIRMED), 0, -1):
        seeds = min(MOST_SEEDS, int(seconds // (run * (count + 1))))
        if seeds >= (SEEDS_WANTED if count > 1 else LEAST_SEEDS):
            return Confirming(count, seeds, seeds * (count + 1) * run)
    return Confirming(0, 0, 0.0)


def minutes_for_one(run: float, workers: int, choosing_seconds: float) -> float:
    """Return how many minutes would be enough to confirm one arm on six seeds."""
    return max(2 * SEEDS_WANTED * run / CONFIRMING, choosing_seconds / CHOOSING) / workers / 60
