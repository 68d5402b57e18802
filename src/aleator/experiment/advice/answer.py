"""What the confirming runs say: effects with intervals, the winner, and the answer in sentences."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aleator.experiment.advice.arms import BASELINE, OWN
from aleator.experiment.advice.confirming import confirming_results
from aleator.experiment.advice.plan import minutes_needed
from aleator.experiment.advice.session import Session
from aleator.experiment.comparison.plan import PlannedRun, run_folder
from aleator.experiment.comparison.summary import first_reaching, last_until
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
    no_time = [name for name, entry in named.items() if entry["status"] == "not tried"]
    waits = not confirmed and bool(tuned or no_time)
    return [
        *advice_words.answer(
            Headline(**document["task"]["headline"]),
            effects_in(document),
            own_settings=OWN,
            not_applicable={name: e["why"] for name, e in named.items() if e["status"] == "does not apply"},
            failed=failed,
            dropped=tuned if confirmed else [],
            not_tried=no_time + ([] if confirmed else tuned),
            enough_minutes=minutes_needed(document, slots) if waits else None,
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
    if lost := [seed for seed in runs[BASELINE] if seed not in baseline.values]:
        why = _error(session, runs[BASELINE][lost[0]], len(lost), len(runs[BASELINE]))
        failed[BASELINE] = f"{why}; arms are compared on its other seeds" if baseline.values else why
    for name, of_arm in runs.items():
        if name == BASELINE:
            continue
        if bad := [seed for seed, (_, result) in of_arm.items() if result is None]:
            failed[name] = _error(session, of_arm[bad[0]], len(bad), len(of_arm))
            continue
        found = _results(session, of_arm)
        if bad := [seed for seed in of_arm if seed not in found.values]:
            failed[name] = _error(session, of_arm[bad[0]], len(bad), len(of_arm))
        elif set(found.values) & set(baseline.values):
            arms[name] = found
        else:
            failed[name] = "the baseline has no result with its seeds"
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
            **_at_equal_steps(session.out, runs[BASELINE], of_arm, headline),
            "seconds_to_target": mean([float(row["seconds"]) for row in reached]),
            "steps_to_target": mean([float(row["step"]) for row in reached]),
            "folders": [f"runs/{run.folder}" for run, _ in done],
        }
    return told


def _at_equal_steps(out: Path, baseline: Runs, arm: Runs, headline: Headline) -> dict[str, Any]:
    """Return the mean validation headlines of an arm and the baseline after as many steps as the shorter one has.

    They are those of the last evaluation until then, over the seeds that both have. The longer one is in the midst of
    its schedule there.
    """
    pairs = [
        (run, baseline[seed][0], min(result["steps"], other["steps"]))
        for seed, (run, result) in arm.items()
        if result is not None and seed in baseline and (other := baseline[seed][1]) is not None
    ]
    values = [[last_until(run_folder(out, run), step, headline) for run in of] for *of, step in pairs]
    found = [pair for pair in values if None not in pair]
    if not found:
        return {"equal_steps": None, "validation_at_equal_steps": None, "baseline_at_equal_steps": None}
    own, others = (math.fsum(column) / len(found) for column in zip(*found, strict=True))
    return {"equal_steps": pairs[0][2], "validation_at_equal_steps": own, "baseline_at_equal_steps": others}


def _tick(document: Mapping[str, Any], runs: Mapping[str, Runs]) -> float | None:
    """Return the step of the headline on the test data: of an accuracy one example."""
    if not is_accuracy(document["task"]["headline"]["name"]):
        return None
    found = [result["test"].get("examples") for of_arm in runs.values() for _, result in of_arm.values() if result]
    return 1 / found[0] if found and found[0] else None


def _error(session: Session, one: tuple[PlannedRun, Mapping[str, Any] | None], failed: int, planned: int) -> str:
    run, result = one
    outcome = session.ended_badly.get(run.folder)
    why = outcome.error if outcome is not None else "see its log" if result is None else "its test result is no number"
    return f"{failed} of {planned} runs failed: {why} (log: runs/{run.folder}/run.log)"
