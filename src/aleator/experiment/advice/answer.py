"""What the confirming runs say: effects with intervals, the winner, and the answer in sentences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from aleator.experiment.advice.arms import BASELINE, OWN
from aleator.experiment.advice.confirming import confirming_results
from aleator.experiment.advice.plan import minutes_needed
from aleator.experiment.advice.session import Session
from aleator.experiment.comparison.plan import PlannedRun, run_folder
from aleator.experiment.comparison.summary import first_reaching
from aleator.experiment.protocol import Headline
from aleator.experiment.report import advice_words
from aleator.experiment.shares import is_accuracy
from aleator.experiment.test_examples import read_test_examples
from aleator.stats.advice.effects import ArmResults, Effect, arm_effects, best_first

Runs = Mapping[int, tuple[PlannedRun, Mapping[str, Any] | None]]

_FIELDS = [field.name for field in dataclasses.fields(Effect)]


def conclude(session: Session) -> None:
    """Put effects, winner and answer into the document. A look that is not finished concludes nothing new."""
    document = session.document
    for name, usual in (("effects", []), ("winner", BASELINE), ("answer", []), ("failed", {}), ("described", {})):
        document.setdefault(name, usual)
    if not document["looks"] or not document["looks"][-1]["done"]:
        return
    look = len(document["looks"])
    if document.get("concluded") != look:
        if document["looks"][-1]["confirming"]["seeds"]:
            _effects(session, look)
        document["concluded"] = look
    best = next((one for one in document["effects"] if one["claim"] == "better" and one["arm"] != OWN), None)
    own_is_better = any(one["claim"] == "better" and one["arm"] == OWN for one in document["effects"])
    document["winner"] = best["arm"] if best else OWN if own_is_better else BASELINE
    document["answer"] = answer_of(document, session.crew.slots)


def answer_of(document: Mapping[str, Any], slots: int) -> list[str]:
    """Return the sentences of the answer."""
    entries = document["arms"]
    named = {name: entry for name, entry in entries.items() if name != BASELINE}
    confirmed, failed = document["confirmed"], dict(document["failed"])
    failed |= {name: entry["why"] for name, entry in named.items() if entry["status"] == "failed"}
    tuned = [name for name, entry in named.items() if entry["status"] == "chosen" and name not in confirmed]
    return [
        *advice_words.answer(
            Headline(**document["task"]["headline"]),
            effects_in(document),
            own_settings=OWN,
            not_applicable={name: e["why"] for name, e in named.items() if e["status"] == "does not apply"},
            failed=failed,
            dropped=tuned if document["effects"] else [],
            not_tried=[name for name, e in named.items() if e["status"] == "not tried"]
            + ([] if document["effects"] else tuned),
            enough_minutes=None if document["effects"] else minutes_needed(document, slots),
        ),
        *([advice_words.guarantee(document["alpha"])] if document["effects"] else []),
    ]


def effects_in(document: Mapping[str, Any]) -> list[Effect]:
    """Return the effects that a document holds."""
    return [Effect.read({key: entry[key] for key in _FIELDS}) for entry in document["effects"]]


def _effects(session: Session, look: int) -> None:
    document = session.document
    runs = confirming_results(session)
    baseline = _results(session, runs[BASELINE])
    arms, failed = {}, {}
    for name, of_arm in runs.items():
        if name == BASELINE:
            continue
        if bad := [seed for seed, (_, result) in of_arm.items() if result is None]:
            failed[name] = _error(session, of_arm[bad[0]][0], len(bad), len(of_arm))
            continue
        found = _results(session, of_arm)
        if len(found.values) == len(of_arm) and set(found.values) & set(baseline.values):
            arms[name] = found
        else:
            failed[name] = "its test results are not finite numbers"
    document["failed"] = failed
    document["described"] = _described(session, runs)
    if not arms:
        return
    effects = arm_effects(
        baseline,
        arms,
        alpha=document["alpha"],
        look=look,
        direction=document["task"]["headline"]["direction"],
        tick=_tick(document, runs),
        kept=effects_in(document),
        family=list(document["confirmed"]),
    )
    document["effects"] = [{**dataclasses.asdict(one), "claim": one.claim} for one in best_first(effects)]
    for one in effects.values():
        if one.claim is not None:
            document["confirmed"][one.arm]["claimed"] = one.claim


def _results(session: Session, runs: Runs) -> ArmResults:
    name = session.document["task"]["headline"]["name"]
    values = {
        seed: float(value)
        for seed, (_, result) in runs.items()
        if result is not None and (value := result["test"].get(name)) is not None and math.isfinite(value)
    }
    if not session.document["task"]["test_stays"]:
        return ArmResults(values)
    found = {
        seed: examples
        for seed in values
        if (examples := read_test_examples(run_folder(session.out, runs[seed][0]), dict(runs[seed][1] or {})))
    }
    return ArmResults(values, found)


def _described(session: Session, runs: Mapping[str, Runs]) -> dict[str, Any]:
    """Return what is shown of each arm without a claim: its mean, its time, and when it reached the target.

    The target is the mean validation headline of the baseline at the end of its runs.
    """
    headline = Headline(**session.document["task"]["headline"])

    def mean(values: list[float]) -> float | None:
        return math.fsum(values) / len(values) if values else None

    def of(arm: str, split: str) -> list[float]:
        found = [result[split].get(headline.name) for _, result in runs[arm].values() if result is not None]
        return [float(value) for value in found if value is not None]

    target = mean(of(BASELINE, "validation"))
    told: dict[str, Any] = {}
    for arm, of_arm in runs.items():
        done = [(run, result) for run, result in of_arm.values() if result is not None]
        rows = [
            None if target is None else first_reaching(run_folder(session.out, run), target, headline)
            for run, _ in done
        ]
        reached = [row for row in rows if row is not None]
        told[arm] = {
            "test": mean(of(arm, "test")),
            "validation": mean(of(arm, "validation")),
            "seconds": mean([float(result["seconds"]["total"]) for _, result in done]),
            "steps": mean([float(result["steps"]) for _, result in done]),
            "memory": max((int(result["peak_memory_bytes"] or 0) for _, result in done), default=0),
            "target": target,
            "reached": len(reached),
            "runs": len(of_arm),
            "seconds_to_target": mean([float(row["seconds"]) for row in reached]),
            "steps_to_target": mean([float(row["step"]) for row in reached]),
            "folders": [f"runs/{run.folder}" for run, _ in done],
        }
    return told


def _tick(document: Mapping[str, Any], runs: Mapping[str, Runs]) -> float | None:
    """Return the step of the headline on the test data: of an accuracy one example."""
    if not is_accuracy(document["task"]["headline"]["name"]):
        return None
    found = [result["test"].get("examples") for of_arm in runs.values() for _, result in of_arm.values() if result]
    return 1 / found[0] if found and found[0] else None


def _error(session: Session, run: PlannedRun, failed: int, planned: int) -> str:
    outcome = session.ended_badly.get(run.folder)
    why = outcome.error if outcome is not None else "see its log"
    return f"{failed} of {planned} runs failed: {why} (log: runs/{run.folder}/run.log)"
