"""Simulated hours of advice: how often something is claimed that is not so, and how often what is so is found.

An hour confirms four arms against a baseline on fresh seeds; every resume confirms the two oldest arms that are not
settled again and two new ones, on seeds of their own. Results are drawn, and judged by `aleator.stats.arm_effects`
itself. Unless effects are asked for, arms and baseline have one law. The noise of a result is

- ``normal``; ``skewed``: exponential in all; ``unequal``: exponential in the baseline and normal in the arms, with
  equal means and variances;
- ``discrete``: the accuracy of one test set of a few hundred images, each right with the probability 0.96;
- ``recorded``: a run drawn from those of ``digits_seeds.json`` for every seed and arm, on test images drawn anew;
- ``examples``: arms that differ from image to image and not on average. Image e is answered rightly by arm j with seed
  i where ease(e) + arm(j, e) + seed(i, j, e) > 0, normal with the deviations 2, 0.7 and 0.7, and the mean 3.7 of the
  first; images are drawn anew for every hour, and nothing but a difference on new images would be true. Images
  outweigh seeds about as much as between the recorded runs of two optimizers.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from aleator.experiment import Budget, Headline, Split, StepResult
from aleator.experiment.files import read_json
from aleator.random import Streams
from aleator.stats import ArmResults, Effect, ExampleResults, arm_effects
from aleator.stats.advice.effects import best_first

RECORDED = Path(__file__).with_name("digits_seeds.json")
PARTS = 10
ARMS = 4
BASELINE = -1
DIFFICULTY, EASE, OF_ARM, OF_SEED = 2.0, 3.7, 0.7, 0.7

Table = NDArray[np.float64]


@dataclass(frozen=True)
class SimulatedHours:
    """Simulate hours of advice and count false claims."""

    noise: Literal["normal", "skewed", "unequal", "discrete", "recorded", "examples"] = "normal"
    """The law of a result."""
    looks: int = 1
    """How often an answer is given: 1 and the number of resumes."""
    seeds_of_look: int = 8
    """Seeds of each look."""
    effects: tuple[float, ...] = ()
    """By how many standard deviations of a paired difference the first arms are better."""
    test_examples: int = 360
    """Images of a test set."""
    by_example: bool = True
    """Whether results by test example are kept, where the noise has them."""
    alpha: float = 0.05
    """Probability of any false claim, over all looks."""
    hours: int = 1000
    """How many hours are simulated."""

    def task(self, streams: Streams, accelerator: Accelerator) -> SimulatedHoursTask:
        """Build the task; see `aleator.experiment.Recipe`."""
        return SimulatedHoursTask(self, streams)


class SimulatedHoursTask:
    """Hours in ten parts; see `aleator.experiment.Task`."""

    headline = Headline("false_claims", "min")

    def __init__(self, options: SimulatedHours, streams: Streams) -> None:
        self.options = options
        self.budget = Budget(PARTS, "steps")
        self.evaluate_every = PARTS
        self.rng = streams.numpy("hours")
        self.counts = dict.fromkeys(["hours", "false_claims", "best_first", *self._found()], 0)

    def _found(self) -> list[str]:
        return [f"found_{index + 1}" for index, effect in enumerate(self.options.effects) if effect]

    def train_batches(self) -> Iterator[int]:
        """Yield the hours of the next part."""
        while self.counts["hours"] < self.options.hours:
            yield max(1, self.options.hours // PARTS)

    def train_step(self, batch: int) -> StepResult:
        """Simulate a part."""
        for _ in range(batch):
            self._count(hour(self.options, self.rng))
        return StepResult({}, examples=batch)

    def _count(self, effects: dict[str, Effect]) -> None:
        true = dict(enumerate(self.options.effects))
        self.counts["hours"] += 1
        self.counts["false_claims"] += any(e.claim and not true.get(int(name)) for name, e in effects.items())
        self.counts["best_first"] += best_first(effects)[0].arm == "0"
        for index, effect in true.items():
            if effect:
                self.counts[f"found_{index + 1}"] += effects[str(index)].claim == "better"

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the shares of hours so far; validation and test are the same."""
        hours = max(1, self.counts["hours"])
        return {name: count / hours for name, count in self.counts.items() if name != "hours"} | {"hours": float(hours)}

    def state_dict(self) -> dict[str, Any]:
        """Return the counts."""
        return {"counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.counts = dict(state["counts"])


def hour(options: SimulatedHours, rng: np.random.Generator) -> dict[str, Effect]:
    """Simulate one hour and its resumes, and return the effects as the last look has them."""
    world = World(options, rng)
    baseline, arms = ArmResults({}, {}), dict[str, ArmResults]()
    effects: dict[str, Effect] = {}
    for look in range(1, options.looks + 1):
        open_arms = [name for name in arms if effects[name].claim is None][: ARMS // 2]
        new = [str(len(arms) + index) for index in range(ARMS - len(open_arms))]
        first = (look - 1) * options.seeds_of_look
        seeds = range(first, first + options.seeds_of_look)
        baseline = joined(baseline, world.results(BASELINE, seeds))
        for name in (*open_arms, *new):
            arms[name] = joined(arms.get(name, ArmResults({}, {})), world.results(int(name), seeds))
        effects = arm_effects(
            baseline, arms, alpha=options.alpha, look=look, tick=world.tick, kept=tuple(effects.values())
        )
    return effects


def joined(a: ArmResults, b: ArmResults) -> ArmResults:
    """Return the results of both."""
    return ArmResults({**a.values, **b.values}, {**a.examples, **b.examples})


class World:
    """What is true in one hour: its test examples, and how arms do on them."""

    def __init__(self, options: SimulatedHours, rng: np.random.Generator) -> None:
        self.options, self.rng = options, rng
        by_image = options.noise in ("discrete", "recorded", "examples")
        self.tick = 1 / options.test_examples if by_image else None
        if options.noise == "examples":
            self.ease = EASE + DIFFICULTY * rng.standard_normal(options.test_examples)
            self.of_arm: dict[int, Table] = {}
        if options.noise == "recorded":
            self.runs = recorded("sgd")[:, rng.integers(0, recorded("sgd").shape[1], options.test_examples)]

    def results(self, arm: int, seeds: range) -> ArmResults:
        """Draw the results of an arm on some seeds."""
        table = self._by_image(arm, len(seeds))
        if table is not None:
            values = table.mean(1)
            kept = zip(seeds, map(ExampleResults, table), strict=True) if self.options.by_example else ()
            return ArmResults(dict(zip(seeds, values.tolist(), strict=True)), dict(kept))
        true = self.options.effects[arm] if 0 <= arm < len(self.options.effects) else 0.0
        drawn = self._numbers(arm, len(seeds)) + 2**0.5 * true
        return ArmResults(dict(zip(seeds, drawn.tolist(), strict=True)))

    def _numbers(self, arm: int, count: int) -> Table:
        options, rng = self.options, self.rng
        if options.noise == "discrete":
            return rng.binomial(options.test_examples, 0.96, count) / options.test_examples
        if options.noise == "skewed" or (options.noise == "unequal" and arm == BASELINE):
            return rng.exponential(size=count) - 1
        return rng.standard_normal(count)

    def _by_image(self, arm: int, count: int) -> Table | None:
        if self.options.noise == "recorded":
            return self.runs[self.rng.integers(0, len(self.runs), count)]
        if self.options.noise != "examples":
            return None
        size = self.options.test_examples
        if arm not in self.of_arm:
            self.of_arm[arm] = OF_ARM * self.rng.standard_normal(size)
        noise = OF_SEED * self.rng.standard_normal((count, size))
        return (self.ease + self.of_arm[arm] + noise > 0).astype(np.float64)


@functools.cache
def recorded(optimizer: str) -> Table:
    """Return which test images the recorded runs answered rightly, a row for each seed."""
    rows = read_json(RECORDED)["right"][optimizer]
    return np.array([[float(digit) for digit in row] for row in rows])
