"""From experiments to ``evidence/METHOD.json``: run the commands, judge the claims, write down what was found."""

from __future__ import annotations

import importlib
import shlex
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from aleator.cli import main
from aleator.experiment.files import read_json, write_json
from experiments.claims import Claim, Experiment, Scale, count_wins, find

ROOT = Path(__file__).parents[1]
EVIDENCE = ROOT / "evidence"


def experiments_of(method: str) -> Sequence[Experiment]:
    """Return the committed experiments of a method.

    Raises:
        ValueError: if there are none.
    """
    modules = [path.stem for path in Path(__file__).parent.glob("*.py") if not path.stem.startswith("_")]
    known = sorted(name.replace("_", "-") for name in modules if name not in ("claims", "evidence", "pays", "tables"))
    if method not in known:
        raise ValueError(f"method must be one of {', '.join(known)}, got {method!r}")
    module = importlib.import_module(f"experiments.{method.replace('-', '_')}")
    return module.EXPERIMENTS  # type: ignore[no-any-return]


def produce(method: str, scales: Sequence[Scale], only: Sequence[str] = ()) -> None:
    """Run a method's experiments of these scales and write its evidence file.

    Finished runs are not run again, so an interrupted call goes on where it was. Experiments of other scales, and those
    not named in ``only``, keep the entries they have where the claim and its command are still the same; others are
    entered as not run.

    Raises:
        RuntimeError: if a comparison fails.
    """
    path = EVIDENCE / f"{method}.json"
    before = read_json(path)["claims"] if path.exists() else []
    experiments = experiments_of(method)
    kept = {(entry["experiment"], entry["claim"], entry["command"]): entry for entry in before}
    entries = {
        experiment.name: [
            kept.get((experiment.name, claim.text, shlex.join(experiment.command))) or _not_run(experiment, index)
            for index, claim in enumerate(experiment.claims)
        ]
        for experiment in experiments
    }
    for experiment in experiments:
        if experiment.scale in scales and (not only or experiment.name in only):
            entries[experiment.name] = _run(method, experiment)
        write_json(path, {"method": method, "claims": [claim for claims in entries.values() for claim in claims]})


def _run(method: str, experiment: Experiment) -> list[dict[str, Any]]:
    out = ROOT / "out" / "evidence" / method / experiment.name
    code = main([*experiment.command[1:], "--out", str(out)])
    if code != 0:
        raise RuntimeError(f"experiment {experiment.name} ended with exit code {code}; see {out}")
    comparison = read_json(out / "comparison.json")
    return [_judged(experiment, index, comparison) for index in range(len(experiment.claims))]


def _judged(experiment: Experiment, index: int, comparison: dict[str, Any]) -> dict[str, Any]:
    claim = experiment.claims[index]
    measured = _wins(claim, comparison) if claim.relation == "more often than" else _difference(claim, comparison)
    said = next(iter(measured["figures"].values()))
    return {
        **_head(experiment, index),
        **measured,
        "verdict": claim.verdict(said, measured["interval"], constant=measured["constant"]),
        "wall_seconds": sum(run["seconds"]["total"] for v in comparison["variants"] for run in v["runs"]),
        "machine": comparison["environment"]["machine"],
        "versions": comparison["environment"]["versions"],
        "commit": _commit(),
    }


def _difference(claim: Claim, comparison: dict[str, Any]) -> dict[str, Any]:
    found = find(claim, comparison)
    difference = found.difference
    # Positive where the claim's a is better: more of one metric, less of another.
    sense = "difference" if found.metric.direction == "max" else "reduction"
    name = f"{found.metric.name} {sense}"
    return {
        "seeds": difference.n,
        "figures": {name: difference.mean, found.a: found.means[0], found.b: found.means[1]},
        "interval": difference.interval,
        "constant": difference.n > 1 and difference.interval is None,
    }


def _wins(claim: Claim, comparison: dict[str, Any]) -> dict[str, Any]:
    found = count_wins(claim, comparison)
    return {
        "seeds": found.seeds,
        "figures": {f"{found.metric.name} wins": found.share, str(claim.a): found.a, str(claim.b): found.b},
        "interval": found.interval,
        "constant": False,
    }


def _not_run(experiment: Experiment, index: int) -> dict[str, Any]:
    nothing = ("seeds", "figures", "interval", "constant", "wall_seconds", "machine", "versions", "commit")
    return {**_head(experiment, index), **dict.fromkeys(nothing), "verdict": "not run"}


def _head(experiment: Experiment, index: int) -> dict[str, Any]:
    claim = experiment.claims[index]
    return {
        "claim": claim.text,
        "baseline": str(claim.b),
        "relation": claim.relation,
        "threshold": claim.threshold,
        "experiment": experiment.name,
        "data": experiment.data,
        "scale": experiment.scale,
        "command": shlex.join(experiment.command),
    }


def _commit() -> str:
    """Return the commit the code was at, marked when the library's files differed from it."""
    git = ["git", "-C", str(ROOT)]
    head = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True, check=False)
    return head.stdout.strip() + ("+changes" if changed.stdout.strip() else "")
