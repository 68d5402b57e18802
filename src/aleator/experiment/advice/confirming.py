"""The third phase: the best arms against the tuned baseline, on fresh seeds. Here, and only here, test data are read.

How many arms and seeds there are is fixed before the first run starts. The k-th look has seeds of its own, which every
arm of it shares with the baseline; an arm that was confirmed before keeps its earlier seeds, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from aleator.experiment.advice.arms import BASELINE, OWN, Trial
from aleator.experiment.advice.choosing import Chosen
from aleator.experiment.advice.measure import EVALUATIONS
from aleator.experiment.advice.plan import seconds_of_runs
from aleator.experiment.advice.session import Session
from aleator.experiment.comparison.plan import PlannedRun
from aleator.experiment.comparison.summary import finished_results
from aleator.stats.advice import hour

SEEDS_OF_A_LOOK = 1000
FAR_OFF = 3.0
"""From which factor on between the tuned learning rate and the given one the given settings are confirmed, too."""


def confirm(session: Session, chosen: Sequence[Chosen], pair: Chosen | None) -> None:
    """Carry out the runs that confirm, and note in the look which they were."""
    look, document = session.look, session.document
    with session.during("confirming"):
        if "confirming" not in look:
            look["confirming"] = _planned(session, _candidates(session, chosen), pair)
            session.save()
        planned = runs_of_look(session, len(document["looks"]))
        session.carry_out([run for _, run in planned])
    session.save()  # with the time of this phase: a look that is done takes no more
    look["done"] = True


def _candidates(session: Session, chosen: Sequence[Chosen]) -> list[Chosen]:
    """Return the arms that are worth confirming, the most promising first, without the baseline and the pair."""
    document = session.document
    baseline = next((one for one in chosen if one.trial.arm == BASELINE), None)
    if baseline is None:
        return []
    others = [one for one in chosen if one.trial.arm != BASELINE]
    own = _own_settings(session, baseline)
    before = document["confirmed"]
    settled = {name for name, known in before.items() if known.get("claimed")}
    fresh = [one for one in others if one.trial.arm not in before]
    broken = document.get("failed", {})  # of which nothing can be claimed any more
    again = [one for one in others if one.trial.arm in before and one.trial.arm not in settled | set(broken)]
    ordered = again + fresh
    if own is not None and OWN not in settled | set(broken):
        ordered.insert(1, own)
    return ordered[: hour.MOST_CONFIRMED]


def _own_settings(session: Session, baseline: Chosen) -> Chosen | None:
    """Return the settings as they were given, as an arm, where tuning has moved the learning rate far."""
    given, tuned = session.document["task"]["lr"], baseline.trial.changes.get("lr")
    if not given or not tuned or max(given / tuned, tuned / given) < FAR_OFF:
        return None
    return Chosen(Trial(OWN, 0, {}), baseline.steps, math.nan)


def _planned(session: Session, candidates: Sequence[Chosen], pair: Chosen | None) -> dict[str, Any]:
    document, look = session.document, session.look
    whole = 60 * look["minutes"] * session.crew.slots
    run = _seconds_of_a_run(session)
    seconds = session.left() - hour.RESERVE / 2 * whole
    known = document["confirmed"].get(pair.trial.arm, {}) if pair is not None else {}
    if pair is not None and (known.get("claimed") or pair.trial.arm in document.get("failed", {})):
        pair = None
    found = hour.confirming(seconds, len(candidates), run, pair is not None, session.crew.slots)
    arms = [*candidates[: found.arms], *([pair] if pair is not None and found.pair else [])]
    for one in arms:
        known = {"number": one.trial.number, "changes": dict(one.trial.changes), "steps": one.steps}
        entry = document["confirmed"].setdefault(one.trial.arm, {**known, "looks": []})
        entry["looks"].append(len(document["looks"]))
    first = SEEDS_OF_A_LOOK * len(document["looks"])
    return {
        "arms": [one.trial.arm for one in arms],
        "left_out": [one.trial.arm for one in candidates[found.arms :]],
        "seeds": [first + index for index in range(found.seeds)],
        "seconds_of_a_run": run,
    }


def _seconds_of_a_run(session: Session) -> float:
    """Return what a run of full length will take, corrected by what those of the last rung took."""
    predicted = seconds_of_runs(session.document, EVALUATIONS)(1.0)
    without = seconds_of_runs(session.document, 0)(1.0) - session.document["task"]["process"]
    seen = [
        session.results[name]["seconds"]["total"]
        for entry in session.document["arms"].values()
        for trial in entry.get("trials", {}).values()
        for row in trial["rungs"]
        if row["share"] > 0.99 and (name := row["folder"].removeprefix("runs/")) in session.results
    ]
    if not seen:
        return predicted
    extra: float = max(0.0, math.fsum(seen) / len(seen) - without)
    return predicted + extra


def runs_of_look(session: Session, look: int) -> list[tuple[str, PlannedRun]]:
    """Return the confirming runs of the k-th look with their arms, seed by seed."""
    planned = session.document["looks"][look - 1].get("confirming")
    if planned is None or not planned["seeds"]:
        return []
    trials = [baseline_trial(session), *(confirmed_trial(session, name) for name in planned["arms"])]
    return [(trial.arm, session.confirming(trial, steps, seed)) for seed in planned["seeds"] for trial, steps in trials]


def baseline_trial(session: Session) -> tuple[Trial, int]:
    """Return the tuned baseline and its steps."""
    entry = session.document["arms"][BASELINE]
    changes = entry["trials"][str(entry["best"])]["changes"]
    return Trial(BASELINE, entry["best"], changes), entry["steps"]


def confirmed_trial(session: Session, name: str) -> tuple[Trial, int]:
    """Return the settings that an arm is confirmed with, the same ones in every look, and its steps."""
    known = session.document["confirmed"][name]
    return Trial(name, known["number"], known["changes"]), known["steps"]


def confirming_results(session: Session) -> dict[str, dict[int, tuple[PlannedRun, Mapping[str, Any] | None]]]:
    """Return the confirming runs of all looks with their results, by arm and seed; None is a run without one."""
    found: dict[str, dict[int, tuple[PlannedRun, Mapping[str, Any] | None]]] = {}
    for look in range(1, len(session.document["looks"]) + 1):
        planned = runs_of_look(session, look)
        results = finished_results([run for _, run in planned], session.out)
        for arm, run in planned:
            found.setdefault(arm, {})[run.seed] = run, results.get(run.folder)
    return found
