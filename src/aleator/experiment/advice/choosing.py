"""The second phase: every arm is tuned alike, on validation data; what is found here is never an effect."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aleator.experiment.advice.arms import (
    BASELINE,
    SHARED,
    Arm,
    Trial,
    combined,
    range_of_rates,
    shared_draws,
    trials_of,
)
from aleator.experiment.advice.measure import EVALUATIONS, LEAST_STEPS, Cost, EqualTime, cost_of, time_steps
from aleator.experiment.advice.measuring import Measured
from aleator.experiment.advice.plan import seconds_of_runs
from aleator.experiment.advice.session import Session
from aleator.experiment.comparison.plan import PlannedRun
from aleator.experiment.shares import is_accuracy
from aleator.random import Streams
from aleator.stats.advice import hour

PAIRED = 3  # of the best arms, whose pairs are tried


@dataclass(frozen=True)
class Chosen:
    """The best trial of an arm, and its validation headline at full length."""

    trial: Trial
    steps: int
    value: float


def choose(session: Session, applying: Sequence[Measured]) -> list[Chosen]:
    """Tune the arms that are not tuned yet, as far as there is time; return the best trial of each, the best first.

    The baseline is among them. An arm all of whose trials failed is not.
    """
    document, look = session.document, session.look
    with session.during("choosing"):
        if "choosing" not in look:
            look["choosing"] = _planned(session, applying)
            session.save()
        for name in look["choosing"]["arms"]:
            document["arms"][name].setdefault("chosen_in", len(document["looks"]))
        _carry_out(session, applying)
    chosen = [found for one in applying if (found := _chosen(session, one)) is not None]
    better = 1.0 if document["task"]["headline"]["direction"] == "max" else -1.0
    return sorted(chosen, key=lambda one: (-better * one.value, one.trial.arm))


def _planned(session: Session, applying: Sequence[Measured]) -> dict[str, Any]:
    """Return which arms are tuned in this look, in which rungs."""
    document = session.document
    waiting = [one for one in applying if document["arms"][one.arm.name]["status"] in ("applies", "not tried")]
    run = seconds_of_runs(document, evaluations=0)
    whole = 60 * session.look["minutes"] * session.crew.slots
    full = seconds_of_runs(document, EVALUATIONS)(1.0)
    to_confirm = hour.MOST_SEEDS * (min(len(waiting), hour.MOST_CONFIRMED + 1) + 1) * full
    seconds = max(hour.CHOOSING * whole, (1 - hour.RESERVE) * whole - to_confirm)
    seconds = min(seconds, session.left() - hour.RESERVE * whole)
    least = LEAST_STEPS / document["task"]["steps"]
    if not document["rungs"]:
        found = hour.choosing(seconds, len(waiting), run, least, session.crew.slots)
        taken = waiting[: found.arms]
        document["rungs"] = [dataclasses.asdict(rung) for rung in found.rungs]
    else:  # as many trials as all others had
        each = sum(rung.trials * run(rung.share) for rung in _rungs(session))
        taken = waiting[: int(hour.CHOOSING * whole // each)]
    names = [one.arm.name for one in taken]
    for one in waiting:
        entry = document["arms"][one.arm.name]
        entry["status"] = "tuned" if one.arm.name in names else "not tried"
    return {"arms": names}


def trials_in(session: Session, arm: Arm, count: int) -> list[Trial]:
    """Return the trials of an arm, the same ones at every resume."""
    document = session.document
    probe = document["task"].get("probe") or {}
    draws = shared_draws(count, Streams(session.options.seed))
    wide = range_of_rates(document["task"]["lr"], probe.get("largest_stable_lr"))
    return trials_of(session.recipe, arm, draws, wide)


def _rungs(session: Session) -> list[hour.Rung]:
    return [hour.Rung(**rung) for rung in session.document["rungs"]]


def _carry_out(session: Session, applying: Sequence[Measured]) -> None:
    """Carry out all rungs; the runs of a rung go through all arms, trial by trial, so that load is the same for all."""
    document = session.document
    names = session.look["choosing"]["arms"]
    rungs = _rungs(session) if names else []
    alive = {
        one.arm.name: (one, trials_in(session, one.arm, rungs[0].trials)) for one in applying if one.arm.name in names
    }
    for index, rung in enumerate(rungs):
        runs: dict[str, list[tuple[Trial, PlannedRun]]] = {}
        for name, (one, trials) in alive.items():
            runs[name] = [(trial, session.trial(trial, one.at(rung.share), index)) for trial in trials[: rung.trials]]
        rows = itertools.zip_longest(*runs.values())
        session.carry_out([pair[1] for row in rows for pair in row if pair is not None])
        tried = _tried(session, runs, index)
        for name, pairs in runs.items():
            entry = document["arms"][name]
            one, trials = alive[name]
            told = entry.setdefault("trials", {})
            for trial, run in pairs:
                record = told.setdefault(str(trial.number), {"changes": dict(trial.changes), "rungs": []})
                value, error = _value(session, run)
                record["rungs"] = [*record["rungs"][:index], _row(run, rung, value, error)]
            alive[name] = one, _in_order(session, name, trials[: rung.trials], tried)
            if not alive[name][1]:
                entry["status"] = "failed"
                entry["why"] = next((e for _, run in pairs if (e := _value(session, run)[1])), "no trial had a result")
            elif index == len(rungs) - 1:
                entry["status"], entry["best"] = "chosen", alive[name][1][0].number
        alive = {name: (one, trials) for name, (one, trials) in alive.items() if trials}
        session.save()
    if names and document["arms"][BASELINE]["status"] == "failed":
        raise RuntimeError(f"no trial of the baseline had a result: {document['arms'][BASELINE]['why']}")


Tried = dict[str, dict[int, tuple[Mapping[str, Any], float]]]
"""For each arm the trials that had a result in a rung, by their numbers: what they change, and the result."""


def _tried(session: Session, runs: Mapping[str, Sequence[tuple[Trial, PlannedRun]]], rung: int) -> Tried:
    """Return what the trials of all arms had in a rung, those of earlier looks included."""
    found: Tried = {}
    for arm, entry in session.document["arms"].items():
        if entry.get("chosen_in", math.inf) < len(session.document["looks"]):
            found[arm] = {
                int(number): (trial["changes"], value)
                for number, trial in entry.get("trials", {}).items()
                if len(trial["rungs"]) > rung and (value := trial["rungs"][rung]["validation"]) is not None
            }
    for arm, pairs in runs.items():
        found[arm] = {
            trial.number: (trial.changes, value)
            for trial, run in pairs
            if (value := _value(session, run)[0]) is not None
        }
    return found


def _in_order(session: Session, name: str, trials: Sequence[Trial], tried: Tried) -> list[Trial]:
    """Return the trials of an arm that had a result in a rung, the best first.

    Which is the best is settled together with the arms that have the same draws of the shared settings.
    """
    task = session.document["task"]
    direction, examples = task["headline"]["direction"], task["validation_examples"]
    tick = 1 / examples if examples and is_accuracy(task["headline"]["name"]) else 0.0
    own = {trial.number: trial for trial in trials}

    def alike(number: int, changes: Mapping[str, Any]) -> bool:
        return number in own and all(changes.get(key) == own[number].changes.get(key) for key in SHARED)

    found = {
        arm: {number: one for number, one in of_arm.items() if alike(number, one[0])} for arm, of_arm in tried.items()
    }
    values = {arm: {number: value for number, (_, value) in of_arm.items()} for arm, of_arm in found.items()}
    settings = {
        arm: {number: {k: v for k, v in changes.items() if k not in SHARED} for number, (changes, _) in of_arm.items()}
        for arm, of_arm in found.items()
    }
    order = hour.survivors(values[name], len(values[name]), direction)
    first = hour.settled(values, direction, tick, settings).get(name)
    return [own[number] for number in sorted(order, key=lambda number: number != first)]


def _row(run: PlannedRun, rung: hour.Rung, value: float | None, error: str | None) -> dict[str, Any]:
    return {
        "steps": run.recipe.steps,
        "share": rung.share,
        "validation": value,
        "folder": f"runs/{run.folder}",
        **({"error": error} if error else {}),
    }


def _value(session: Session, run: PlannedRun) -> tuple[float | None, str | None]:
    """Return a run's validation headline, or why there is none."""
    if (result := session.results.get(run.folder)) is not None:
        value = result["validation"].get(session.document["task"]["headline"]["name"])
        return (value, None) if value is not None and math.isfinite(value) else (None, "it was not a finite number")
    outcome = session.ended_badly.get(run.folder)
    return None, outcome.error if outcome is not None else "it was not carried out"


def _chosen(session: Session, one: Measured) -> Chosen | None:
    """Return the best trial of an arm that was tuned in this look or before."""
    entry = session.document["arms"][one.arm.name]
    if entry.get("best") is None:
        return None
    rungs = _rungs(session)
    trial = trials_in(session, one.arm, rungs[0].trials)[entry["best"]]
    value = entry["trials"][str(trial.number)]["rungs"][-1]["validation"]
    return Chosen(trial, one.steps, value)


# --- pairs of arms


def best_pair(session: Session, chosen: Sequence[Chosen]) -> Chosen | None:
    """Return the best pair of the best arms that compose, if it is better than either alone; once, in the first look.

    A pair has one trial of full length, with its arms' settings: it is not tuned.
    """
    with session.during("choosing"):
        pairs = session.document.setdefault("pairs", {"tried": [], "best": None, "done": False})
        if not pairs.get("done", True):
            _try_pairs(session, chosen, pairs)
            pairs["done"] = True
            session.save()
    best = pairs["best"]
    if best is None:
        return None
    first, second = (next((one for one in chosen if one.trial.arm == name), None) for name in best["arms"])
    if first is None or second is None:
        return None
    trial = combined(first.trial, second.trial, best["name"])
    return Chosen(trial, best["steps"], best["validation"])


def _try_pairs(session: Session, chosen: Sequence[Chosen], pairs: dict[str, Any]) -> None:
    """Try the pairs one by one; what is decided of one is written down and is the same after an interruption."""
    document = session.document
    sign = 1.0 if document["task"]["headline"]["direction"] == "max" else -1.0
    baseline = next((one for one in chosen if one.trial.arm == BASELINE), None)
    good = [
        one
        for one in chosen[: PAIRED + 1]
        if baseline is not None and one.trial.arm != BASELINE and sign * (one.value - baseline.value) > 0
    ][:PAIRED]
    for first, second in itertools.combinations(good, 2):
        name = f"{first.trial.arm} + {second.trial.arm}"
        row = next((one for one in pairs["tried"] if one["name"] == name), None)
        if row is None:
            row = {"name": name, "arms": [first.trial.arm, second.trial.arm]}
            _plan_pair(session, first.trial, second.trial, row)
            pairs["tried"].append(row)
            session.save()
        if "why" in row:
            continue
        planned = session.trial(combined(first.trial, second.trial, name), row["steps"], 0)
        session.carry_out([planned])
        value, why = _value(session, planned)
        if value is None:
            row["why"] = why
            continue
        row["validation"] = value
        best = pairs["best"]
        if sign * (value - first.value) > 0 and (best is None or sign * (value - best["validation"]) > 0):
            pairs["best"] = row


def _plan_pair(session: Session, first: Trial, second: Trial, row: dict[str, Any]) -> None:
    """Put into a row how many steps a pair has, or why it is not tried."""
    run = seconds_of_runs(session.document, 0)(1.0)
    kept = (hour.CONFIRMING + hour.RESERVE) * 60 * session.look["minutes"] * session.crew.slots
    if session.left() < kept + run:
        row["why"] = "no time was left to try it"
        return
    try:
        row |= _of_equal_time(session, combined(first, second, row["name"]))
    except ValueError as error:
        row["why"] = str(error)


def _of_equal_time(session: Session, trial: Trial) -> dict[str, Any]:
    """Return how many steps of a pair are equal time.

    Raises:
        ValueError: if the two do not go together.
    """
    task = session.document["task"]
    job = session.job(trial, task["steps"], method="", seconds=0.5, limit=max(5.0, 2 * task["seconds"]))
    outcome, _ = session.carry_out_jobs(time_steps, {trial.arm: job})[trial.arm]
    if outcome.answer is None:
        raise ValueError(outcome.error or outcome.status)
    steps = _equal_time(session).steps_of(cost_of([outcome.answer]), 1)
    if steps < min(LEAST_STEPS, task["steps"]):
        raise ValueError("what it does before its first step takes as long as a whole run")
    return {"steps": steps}


def _equal_time(session: Session) -> EqualTime:
    """Return what equal time was measured to be; folders of before did not keep it, and told all times apart."""
    task, cost = session.document["task"], Cost(**session.document["arms"][BASELINE]["cost"])
    known = task.get("equal_time")
    return EqualTime(**known) if known else EqualTime(task["steps"], cost.training(task["steps"]), 0.0)
