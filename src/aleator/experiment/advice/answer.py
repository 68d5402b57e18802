"""What the confirming runs say: effects with intervals, the winner, and the answer in sentences."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from aleator.experiment.advice.arms import BASELINE, OWN
from aleator.experiment.advice.confirming import confirming_results
from aleator.experiment.advice.session import Session
from aleator.experiment.comparison.plan import PlannedRun, run_folder
from aleator.experiment.shares import is_accuracy
from aleator.stats.advice.effects import ArmResults, Effect, arm_effects, best_first

Runs = Mapping[int, tuple[PlannedRun, Mapping[str, Any] | None]]


def conclude(session: Session) -> None:
    """Put effects, winner and answer into the document. A look that is not finished concludes nothing new."""
    document = session.document
    looks = [look for look in document["looks"] if look["done"]]
    document.setdefault("effects", [])
    document.setdefault("answer", [])
    document.setdefault("winner", BASELINE)
    if not looks or len(looks) < len(document["looks"]):
        return
    if looks[-1]["confirming"]["seeds"] and document.get("concluded") != len(looks):
        _effects(session, len(looks))
        document["concluded"] = len(looks)
    document["answer"] = [str(e["arm"]) + " " + str(e["gain"]) + str(e["interval"]) for e in document["effects"]]
    best = next((effect for effect in document["effects"] if effect["claim"] == "better"), None)
    document["winner"] = best["arm"] if best is not None and best["arm"] != OWN else BASELINE


def _effects(session: Session, look: int) -> None:
    document = session.document
    runs = confirming_results(session)
    baseline = _results(session, runs.pop(BASELINE))
    arms, failed = {}, {}
    for name, of_arm in runs.items():
        if bad := [seed for seed, (_, result) in of_arm.items() if result is None]:
            failed[name] = _error(session, of_arm[bad[0]][0], len(bad), len(of_arm))
            continue
        found = _results(session, of_arm)
        if set(found.values) & set(baseline.values):
            arms[name] = found
    document["failed"] = failed
    if not arms:
        return
    kept = [Effect.read({key: entry[key] for key in _FIELDS}) for entry in document["effects"]]
    effects = arm_effects(
        baseline,
        arms,
        alpha=document["alpha"],
        look=look,
        direction=document["task"]["headline"]["direction"],
        tick=_tick(document, runs),
        kept=kept,
    )
    document["effects"] = [{**dataclasses.asdict(one), "claim": one.claim} for one in best_first(effects)]
    for one in effects.values():
        if one.claim is not None:
            document["confirmed"][one.arm]["claimed"] = one.claim


_FIELDS = [field.name for field in dataclasses.fields(Effect)]


def _results(session: Session, runs: Runs) -> ArmResults:
    name = session.document["task"]["headline"]["name"]
    values = {
        seed: result["test"][name]
        for seed, (_, result) in runs.items()
        if result is not None and result["test"].get(name) is not None
    }
    examples = {
        seed: found for seed in values if (found := example_results(run_folder(session.out, runs[seed][0]))) is not None
    }
    return ArmResults(values, examples)


def example_results(folder: Any) -> None:
    return None


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
