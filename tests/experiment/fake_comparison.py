"""A made-up comparison's folder, as `aleator compare` leaves it: curves that look like learning, one failed run."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from aleator.stats import clopper_pearson, holm, mean_interval, paired_difference

HOSTILE = "<script>alert(1)</script>"
TEST_EXAMPLES = 360
ENVIRONMENT = {
    "versions": {"aleator": "0.1.0", "python": "3.11.2", "torch": "2.13.0", "numpy": "2.3.1"},
    "machine": {
        "platform": "Linux-6.1-x86_64",
        "processor": "an & <b>unnamed</b> processor",
        "cores": 2,
        "device": "cpu",
    },
}
# name, changed options, accuracy at the end, steps per second
VARIANTS: list[tuple[str, dict[str, Any], float, float]] = [
    ("full", {}, 0.969, 900),
    ("rs2", {"subset": "rs2", "ratio": 0.1}, 0.962, 870),
    ("static", {"subset": "static", "ratio": 0.1}, 0.894, 940),
    (
        HOSTILE,
        {"schedule_length": "full", "stop_at": 600, "note": '"; </script><img src=x onerror=alert(2)>'},
        0.941,
        880,
    ),
]


def metric_lines(end: float, rate: float, noise: np.random.Generator, steps: int = 600) -> list[dict[str, Any]]:
    """Training and validation lines of one run that ends near accuracy ``end``."""
    lines: list[dict[str, Any]] = []
    shift = noise.normal(0, 0.006)
    for step in range(0, steps + 1, 10):
        base = {"step": step, "progress": step, "examples": 32 * step, "seconds": step / rate}
        learned = 1 - math.exp(-step / 90)
        if step:
            loss = 2.3 * (1 - 0.95 * learned) + abs(noise.normal(0, 0.08))
            lines.append({**base, "split": "train", "metrics": {"loss": loss}})
        if step % 30 == 0:
            accuracy = 0.1 + (end + shift - 0.1) * learned + noise.normal(0, 0.02) * (1.05 - learned)
            accuracy = round(min(max(accuracy, 0), 1) * 300) / 300
            metrics = {"accuracy": accuracy, "loss": 2.3 * (1 - 0.93 * learned), "examples": 300}
            lines.append({**base, "split": "validation", "metrics": metrics})
    return lines


def write_run(folder: Path, lines: list[dict[str, Any]], seed: int, accuracy: float | None) -> dict[str, Any] | None:
    """Write a run's folder; without an ``accuracy`` it is one that has not finished. Returns its result."""
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    config = {
        "schema_version": 1,
        "aleator_version": "0.1.0",
        "recipe": "classify",
        "options": {"data": "digits", "model": "mlp", "lr": 0.1, "hidden": [64, 64], "note": HOSTILE},
        "seed": seed,
        "threads": 1,
        "command": ["aleator", "run", "classify", "--note", HOSTILE],
        "identity": "ab" * 32,
        "created": "2026-07-01T12:00:00+00:00",
        **ENVIRONMENT,
    }
    (folder / "config.json").write_text(json.dumps(config))
    if accuracy is None:
        (folder / "run.log").write_text("Traceback (most recent call last): …\n")
        return None
    last = [line for line in lines if line["split"] == "validation"][-1]
    result = {
        "schema_version": 1,
        "status": "done",
        "stopped": None,
        "seed": seed,
        "recipe": "classify",
        "unit": "steps",
        "steps": last["step"],
        "progress": last["step"],
        "examples": last["examples"],
        "headline": {"name": "accuracy", "direction": "max"},
        "validation": last["metrics"],
        "test": {"accuracy": accuracy, "loss": 0.12, "examples": TEST_EXAMPLES},
        "best_validation": {"step": last["step"], "metrics": last["metrics"]},
        "seconds": {"train": last["seconds"], "evaluate": 0.05, "checkpoint": 0.02, "total": last["seconds"] + 0.07},
        "peak_memory_bytes": 310 * 2**20 + seed,
        "device": "cpu",
        "skipped_steps": 0,
        "finished": "2026-07-01T12:00:02+00:00",
    }
    (folder / "result.json").write_text(json.dumps(result))
    return result


def write_comparison(
    folder: Path,
    *,
    seeds: int = 3,
    sizes: tuple[int, ...] | None = None,
    fail: tuple[str, int] | None = ("static", 2),
    variants: list[tuple[str, dict[str, Any], float, float]] = VARIANTS,
) -> Path:
    """Write comparison.json and the runs it names; the run ``fail`` (name, seed) has failed."""
    entries, pairs, failures = [], [], []
    for position, size in enumerate(sizes or (None,)):
        loss = 0.03 * (len(sizes) - 1 - position) if sizes else 0.0  # of accuracy, with less than the largest size
        scores: dict[str, dict[int, float]] = {}
        for index, (name, changed, end, rate) in enumerate(variants):
            runs: list[dict[str, Any]] = []
            to_target: list[int | None] = []
            for seed in range(seeds):
                noise = np.random.default_rng([seed, index, position])
                place = f"runs/variant{index}-seed{seed}" + (f"-size{size}" if size else "")
                lines = metric_lines(end - loss, rate, noise)
                shared = 0.008 * np.random.default_rng(seed).normal()
                accuracy = round((end - loss + shared + noise.normal(0, 0.003)) * TEST_EXAMPLES) / TEST_EXAMPLES
                accuracy = min(accuracy, 1.0)
                failed = fail == (name, seed)
                result = write_run(folder / place, lines[:40] if failed else lines, seed, None if failed else accuracy)
                entry: dict[str, Any] = {"seed": seed, "status": "done" if result else "failed", "folder": place}
                for field in ("steps", "examples", "seconds", "peak_memory_bytes", "validation", "test"):
                    entry[field] = (
                        result[field] if result else ({} if field in ("seconds", "validation", "test") else None)
                    )
                entry["error"] = None if result else "FloatingPointError: loss is nan at step 190 <b>bold</b>"
                interval = clopper_pearson(round(accuracy * TEST_EXAMPLES), TEST_EXAMPLES) if result else None
                entry["accuracy_interval"] = interval
                runs.append(entry)
                if result is None:
                    log = f"{place}/run.log"
                    failures.append({"variant": name, "seed": seed, "size": size, "error": entry["error"], "log": log})
                    to_target.append(None)
                    continue
                scores.setdefault(name, {})[seed] = accuracy
                reached = [x["step"] for x in lines if x["split"] == "validation" and x["metrics"]["accuracy"] >= 0.93]
                to_target.append(reached[0] if reached else None)
            values = list(scores.get(name, {}).values())
            n = len(values)
            mean, interval = (float(np.mean(values)), mean_interval(values)) if values else (None, None)
            summary = {"accuracy": {"mean": mean, "interval": interval, "n": n}}
            summary["loss"] = {"mean": 0.12, "interval": None, "n": n}
            seconds = [None if step is None else step / rate for step in to_target]
            entries.append(
                {
                    "name": name,
                    "options": {"data": "digits", **changed},
                    "changed": changed,
                    "size": size,
                    "tuned": None,
                    "runs": runs,
                    "summary": summary if values else {},
                    "to_target": {
                        "target": 0.93,
                        "source": "given",
                        "split": "validation",
                        "steps": to_target,
                        "examples": [None if step is None else 32 * step for step in to_target],
                        "seconds": seconds,
                    },
                }
            )
        names = [name for name, *_ in variants]
        for first, a in enumerate(names):
            for b in names[first + 1 :]:
                shared_seeds = sorted(scores.get(a, {}).keys() & scores.get(b, {}).keys())
                if not shared_seeds:
                    continue
                found = paired_difference([scores[a][s] for s in shared_seeds], [scores[b][s] for s in shared_seeds])
                pairs.append(
                    {
                        "a": a,
                        "b": b,
                        "size": size,
                        "metric": "accuracy",
                        "mean_difference": found.mean,
                        "interval": found.interval,
                        "p_value": found.p_value,
                        "p_holm": None,
                        "smallest_detectable": found.smallest_detectable,
                        "n": found.n,
                    }
                )
    for pair, adjusted in zip(pairs, holm([pair["p_value"] for pair in pairs]), strict=True):
        pair["p_holm"] = adjusted
    document = {
        "schema_version": 1,
        "recipe": "classify",
        "command": ["aleator", "compare", "classify", "--variant", "full", "--variant", f"{HOSTILE}:note='a b'"],
        "environment": ENVIRONMENT,
        "headline": {"name": "accuracy", "direction": "max"},
        "unit": "steps",
        "seeds": list(range(seeds)),
        "sizes": list(sizes) if sizes else None,
        "tune": None,
        "variants": entries,
        "pairs": pairs,
        "failures": failures,
        "planned_runs": seeds * len(entries),
        "finished_runs": seeds * len(entries) - len(failures),
        "created": "2026-07-01T12:00:00+00:00",
    }
    (folder / "comparison.json").write_text(json.dumps(document))
    return folder
