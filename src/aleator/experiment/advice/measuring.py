"""The first phase: what the task costs, which arms apply, and how many steps of each are equal time."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aleator.experiment.advice.arms import BASELINE, Arm, Trial, rate_of
from aleator.experiment.advice.measure import LEAST_STEPS, Cost, cost_of, equal_time, time_steps
from aleator.experiment.advice.session import Session
from aleator.experiment.comparison.workers import Job, Outcome, Work
from aleator.experiment.shares import is_accuracy

_log = logging.getLogger("aleator.experiment")

ROUNDS = 2  # in which all arms are timed, one after the other
_SHARE = 0.015  # of the time, that timing steps may take
_LONGEST, _SHORTEST = 2.0, 0.2  # seconds
_FIRST_ROUND = 0.05  # of the time, after which a first round is the last
_LATE = "before its first step it takes more than twice the time of a whole run"


class CannotAdvise(RuntimeError):
    """The task broke while it was measured."""


@dataclass(frozen=True)
class Measured:
    """An arm that applies, with what its runs cost and the steps that are equal time."""

    arm: Arm
    cost: Cost
    steps: int

    def at(self, share: float) -> int:
        """Return the steps of a run of a share of the full length."""
        return max(1, round(self.steps * share))


def measure(session: Session, arms: Sequence[Arm], probe: Work | None) -> list[Measured]:
    """Measure the task, once; return the arms that apply.

    Raises:
        ValueError: if the recipe as it was given cannot work.
        CannotAdvise: if it breaks.
    """
    document = session.document
    if "task" not in document:
        with session.during("measuring"):
            document["task"] = _task(session)
            document["arms"] = _arms(session, arms)
            if probe is not None:
                document["task"]["probe"] = _probed(session, probe)
        shutil.rmtree(session.out / "measuring", ignore_errors=True)
        session.save()
    return [applied for arm in arms if (applied := measured(document, arm)) is not None]


def measured(document: Mapping[str, Any], arm: Arm) -> Measured | None:
    """Return what is known of an arm, None if it does not apply."""
    entry = document["arms"].get(arm.name)
    if entry is None or entry["cost"] is None:
        return None
    return Measured(arm, Cost(**entry["cost"]), entry["steps"])


def _task(session: Session) -> dict[str, Any]:
    """Return what the baseline as it was given is: its length, its headline, its first costs."""
    job = session.job(Trial(BASELINE, 0, {}), None, method="", seconds=_SHORTEST, limit=math.inf)
    outcome, _ = session.carry_out_jobs(time_steps, {BASELINE: job})[BASELINE]
    if outcome.status == "refused":
        raise ValueError(outcome.error)
    if outcome.answer is None:
        raise CannotAdvise(f"the task could not be measured: {outcome.error}")
    found = outcome.answer
    headline, validation = found["headline"], found["validation"]
    return {
        "steps": found["steps"],
        "seconds": cost_of([found]).seconds(found["steps"]),
        "headline": headline,
        "device": found["device"],
        "train_examples": found["train_examples"],
        "validation_examples": validation.get("examples"),
        "noise": _noise(headline["name"], validation),
        "lr": rate_of(session.recipe),
    }


def _noise(headline: str, validation: Mapping[str, float]) -> float | None:
    """Return the standard error that validation data of this size give an accuracy near nine in ten."""
    examples = validation.get("examples")
    return math.sqrt(0.09 / examples) if examples and is_accuracy(headline) else None


def _arms(session: Session, arms: Sequence[Arm]) -> dict[str, Any]:
    """Time all arms in turn, as many at a time as there will be runs, and return what each needs for equal time."""
    task = session.document["task"]
    budget = 60 * session.look["minutes"] * session.crew.slots * _SHARE
    seconds = min(_LONGEST, max(_SHORTEST, budget / (ROUNDS * len(arms))))
    found: dict[str, list[dict[str, Any]]] = {arm.name: [] for arm in arms}
    why: dict[str, tuple[str, str]] = {}
    outside: list[float] = []  # seconds to start a process and to end it
    for number in range(ROUNDS):
        jobs: dict[str, Job] = {}
        late = number > 0 and session.spent() > _FIRST_ROUND * 60 * session.look["minutes"]
        for arm in arms:
            if arm.name in why or (late and arm.name != BASELINE):
                continue
            try:
                trial = Trial(arm.name, 0, dict(arm.settings[0]))
                jobs[arm.name] = session.job(
                    trial, task["steps"], method=arm.name, seconds=seconds, limit=max(5.0, 2 * task["seconds"])
                )
            except ValueError as error:  # the method's options do not go with those of the recipe
                why[arm.name] = "does not apply", str(error)
        if number:  # with another seed: the test data must not be others
            jobs[BASELINE] = {**jobs[BASELINE], "run": {**jobs[BASELINE]["run"], "seed": session.options.seed + 1}}
        for name, (outcome, wall) in session.carry_out_jobs(time_steps, jobs).items():
            if (reason := _reason(outcome)) is not None:
                why[name] = reason
            elif outcome.answer is not None:
                found[name].append(outcome.answer)
                outside.append(max(0.0, wall - outcome.answer["inside"]))
    if BASELINE in why:
        raise CannotAdvise(f"the task could not be measured: {why[BASELINE][1]}")
    task["test_stays"] = len({one["test_digest"] for one in found[BASELINE]}) == 1
    task["seconds"], task["process"] = cost_of(found[BASELINE]).seconds(task["steps"]), statistics.median(outside)
    equal = equal_time(found, BASELINE, task["steps"])
    task["equal_time"] = dataclasses.asdict(equal)
    entries: dict[str, Any] = {}
    for arm in arms:
        entry: dict[str, Any] = {"settings": [dict(one) for one in arm.settings], "cost": None, "steps": 0}
        if arm.name not in why:
            cost = cost_of(found[arm.name])
            steps = task["steps"] if arm.name == BASELINE else equal.steps_of(cost, len(found[arm.name]))
            if steps < min(LEAST_STEPS, task["steps"]):
                why[arm.name] = "does not apply", "what it does before its first step takes as long as a whole run"
            else:
                entry |= {"cost": dataclasses.asdict(cost), "steps": steps}
        entry["status"], entry["why"] = why.get(arm.name, ("applies", ""))
        entries[arm.name] = entry
    return entries


def _reason(outcome: Outcome) -> tuple[str, str] | None:
    """Return why an arm is left out, None if it is not."""
    if outcome.status == "refused":
        return "does not apply", outcome.error or ""
    if outcome.answer is None:
        error = outcome.error or outcome.status
        return ("does not apply", _LATE) if "TooSlow" in error else ("failed", error)
    return ("does not apply", outcome.answer["why"]) if "why" in outcome.answer else None


def _probed(session: Session, probe: Work) -> dict[str, Any] | None:
    """Return what the curvature says; None where it cannot be asked, which is no reason not to go on."""
    job = session.job(Trial(BASELINE, 0, {}), None)
    outcome, _ = session.carry_out_jobs(probe, {"probe": job})["probe"]
    if outcome.answer is None:
        _log.info("the curvature was not asked: %s", outcome.error)
    return outcome.answer
