"""The summary of a comparison's finished runs: the content of ``comparison.json``.

Everything is computed from the folders of the runs, so it is the same whether they were carried out at once or in ten
parts. Test metrics have Student's interval over seeds; two variants are compared on the seeds that both have finished
(paired), and Holm's adjustment makes up for the number of pairs. Where runs kept their results by test example, a
second interval of the difference includes the test examples, and speaks of new data. The accuracy of one run has the
exact interval of a proportion. Intervals of accuracies are cut to [0, 1]. Seeds share the test set, so counts are never
pooled. Where a field is tuned, each variant's value is the one with the best mean validation metric; test is only
reported. Three sizes or more have a forecast, see `size_forecast`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aleator.experiment import registry
from aleator.experiment.comparison.plan import PlannedRun, Variant, run_folder
from aleator.experiment.comparison.size_forecast import size_forecasts
from aleator.experiment.comparison.workers import Outcome
from aleator.experiment.files import DamagedFile, UnusableFolder, read_json
from aleator.experiment.identity import environment, options_of
from aleator.experiment.protocol import Headline
from aleator.experiment.record import read_config, read_result
from aleator.experiment.shares import is_share
from aleator.experiment.test_examples import read_test_examples
from aleator.experiment.tracking import metric_rows
from aleator.stats import ArmResults, clopper_pearson, holm, mean_interval, paired_difference
from aleator.stats.advice.effects import new_data_interval
from aleator.stats.intervals import cut

_log = logging.getLogger("aleator.experiment")

Results = dict[str, dict[str, Any]]
"""The content of ``result.json`` of every finished run, by the name of its folder."""


def finished_result(out: Path, run: PlannedRun) -> dict[str, Any] | None:
    """Return the result of a run that was finished under the same identity, or None."""
    folder = run_folder(out, run)
    if not (folder / "result.json").exists() or _identity(folder) != run.identity:
        return None
    return read_result(folder)


def _identity(folder: Path) -> str | None:
    try:
        return str(read_config(folder)["identity"])
    except (OSError, UnusableFolder):  # which the run says when it is carried out
        return None


def finished_results(planned: Sequence[PlannedRun], out: Path) -> Results:
    """Return the results of the runs that are finished, by the name of their folder."""
    return {run.folder: result for run in planned if (result := finished_result(out, run)) is not None}


def check_folder(out: Path, name: str) -> None:
    """Refuse a folder that holds something else.

    Raises:
        ValueError: if it holds a single run or another recipe's comparison.
    """
    if (out / "config.json").exists():
        raise ValueError(f"{out} holds a single run; choose another folder for a comparison with --out")
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; choose a folder with --out")
    path = out / "comparison.json"
    if not path.exists():
        return
    try:
        other = read_json(path).get("recipe")
    except DamagedFile as error:
        _log.warning("%s; it is made again from the runs", error)
        return
    if isinstance(other, str) and registry.short(other) != registry.short(name):
        raise ValueError(f"{out} holds a comparison of recipe {other!r}, not of {name!r}; choose another with --out")


def summarise(
    variants: Sequence[Variant],
    planned: Sequence[PlannedRun],
    results: Results,
    ended_badly: Mapping[str, Outcome],
    *,
    out: Path,
    name: str,
    target: float | None,
    command: list[str],
    horizon: int | None = None,
) -> dict[str, Any]:
    """Return the content of ``comparison.json``.

    Args:
        variants: in the order of the report; the first one is the baseline.
        planned: every run of the comparison.
        results: of the runs that are finished.
        ended_badly: of the runs that were tried and are not finished, by the name of their folder.
        out: the comparison's folder.
        name: the recipe's name.
        target: value of the validation headline that every run should reach; None takes the baseline's mean at the end.
        command: the command line that makes the comparison again.
        horizon: the training size that the forecasts are for, see `size_forecasts`.
    """
    headline = headline_of(results)
    sizes = _distinct(run.size for run in planned)
    entries = [
        _entry(variant, size, planned, results, ended_badly, headline)
        for size, variant in itertools.product(sizes, variants)
    ]
    for size in sizes:
        of_size = [entry for entry in entries if entry["size"] == size]
        goal, source = target, "given"
        if goal is None:
            goal, source = _mean_of(of_size[0]["runs"], "validation", headline), "baseline"
        for entry in of_size:
            entry["to_target"] = _to_target(entry, planned, goal, source, headline, out)
    tuned = next((run.tuned for run in planned if run.tuned), None)
    field = next(iter(tuned)) if tuned else None
    return {
        "recipe": name,
        "command": command,
        "environment": _environment(out, planned),
        "headline": {"name": headline.name, "direction": headline.direction} if headline else None,
        "unit": next((result["unit"] for result in results.values()), None),
        "seeds": _distinct(run.seed for run in planned),
        "sizes": sizes if sizes != [None] else None,
        "tune": {"field": field, "values": _distinct(run.tuned[field] for run in planned)} if field else None,
        "variants": entries,
        "pairs": _pairs(entries, sizes, headline, out) if headline else [],
        "forecasts": size_forecasts(
            entries,
            headline,
            _seeds(planned),
            horizon=horizon,
            full_size=_config(out, planned).get("full_size"),
            target=target,
        ),
        "failures": [
            {
                "variant": run.variant,
                "seed": run.seed,
                "size": run.size,
                "tuned": dict(run.tuned) or None,
                "status": ended_badly[run.folder].status,
                "error": ended_badly[run.folder].error,
                "log": f"runs/{run.folder}/run.log",
            }
            for run in planned
            if run.folder in ended_badly
        ],
        "planned_runs": len(planned),
        "finished_runs": len(results),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


# --- one variant at one size ---------------------------------------------------------------------------------------


def _entry(
    variant: Variant,
    size: int | None,
    planned: Sequence[PlannedRun],
    results: Results,
    ended_badly: Mapping[str, Outcome],
    headline: Headline | None,
) -> dict[str, Any]:
    mine = [run for run in planned if run.variant == variant.name and run.size == size]
    trials = []
    for tuned in _distinct(dict(run.tuned) for run in mine):
        tried = [run for run in mine if run.tuned == tuned]
        runs = [row for run in tried if (row := _row(run, results, ended_badly)) is not None]
        done = [row for row in runs if row["status"] == "done"]
        trials.append(
            {
                "tuned": tuned,
                "options": options_of(tried[0].recipe),
                "validation": _mean_of(runs, "validation", headline),
                "n": len(done),
                "runs": runs,
            }
        )
    chosen = _best(trials, headline)
    entry = {
        "name": variant.name,
        "options": chosen["options"],
        "changed": {key: str(value) if isinstance(value, Path) else value for key, value in variant.changed.items()},
        "size": size,
        "tuned": chosen["tuned"] or None,
        "runs": chosen["runs"],
        "summary": _summary(chosen["runs"]),
    }
    if len(trials) > 1:
        entry["trials"] = [{key: value for key, value in trial.items() if key != "options"} for trial in trials]
    return entry


def _row(run: PlannedRun, results: Results, ended_badly: Mapping[str, Outcome]) -> dict[str, Any] | None:
    """Return what the report says about a run, or None when it was not tried yet."""
    result = results.get(run.folder)
    if result is None and run.folder not in ended_badly:
        return None
    outcome = ended_badly.get(run.folder)
    test = result["test"] if result else {}
    return {
        "seed": run.seed,
        "status": "done" if result else "interrupted" if outcome and outcome.status == "interrupted" else "failed",
        "folder": f"runs/{run.folder}",
        "steps": result["steps"] if result else None,
        "examples": result["examples"] if result else None,
        "seconds": result["seconds"] if result else {},
        "peak_memory_bytes": result["peak_memory_bytes"] if result else None,
        "validation": result["validation"] if result else {},
        "test": test,
        "test_examples": result.get("test_examples") if result else None,
        "error": None if result or outcome is None else outcome.error,
        "accuracy_interval": _accuracy_interval(test),
    }


def _accuracy_interval(test: Mapping[str, float | None]) -> list[float] | None:
    accuracy, examples = test.get("accuracy"), test.get("examples")
    if accuracy is None or examples is None or not 0 <= accuracy <= 1 or examples < 1:
        return None
    return list(clopper_pearson(round(accuracy * examples), round(examples)))


def _best(trials: Sequence[dict[str, Any]], headline: Headline | None) -> dict[str, Any]:
    """Return the trial to report: among those with the most finished seeds, the best on validation."""
    most = max(trial["n"] for trial in trials)
    best: dict[str, Any] | None = None
    for trial in trials:
        if trial["n"] < most or trial["validation"] is None or headline is None:
            continue
        if best is None or headline.better(trial["validation"], best["validation"]):
            best = trial
    return best or trials[0]


def _summary(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    summary = {}
    for metric in _distinct(metric for run in runs for metric in run["test"] if metric != "examples"):
        values = [run["test"][metric] for run in runs if run["test"].get(metric) is not None]
        if values:
            mean = math.fsum(values) / len(values)
            interval = cut(mean_interval(values), 0.0, 1.0) if is_share(metric, values) else mean_interval(values)
            summary[metric] = {"mean": mean, "interval": interval, "n": len(values)}
    return summary


def _to_target(
    entry: Mapping[str, Any],
    planned: Sequence[PlannedRun],
    goal: float | None,
    source: str,
    headline: Headline | None,
    out: Path,
) -> dict[str, Any] | None:
    """Return step, examples and training time at which each seed's validation headline first reached the target."""
    if goal is None or headline is None:
        return None
    done = {run["seed"]: run for run in entry["runs"] if run["status"] == "done"}
    rows = [first_reaching(out / done[s]["folder"], goal, headline) if s in done else None for s in _seeds(planned)]
    return {
        "target": goal,
        "source": source,
        "split": "validation",
        "steps": [row["step"] if row else None for row in rows],
        "examples": [row.get("examples") if row else None for row in rows],
        "seconds": [row["seconds"] if row else None for row in rows],
    }


def first_reaching(folder: Path, goal: float, headline: Headline) -> dict[str, Any] | None:
    """Return the row of a run's log at which its validation headline first reached a goal, None if it did not."""
    for row in metric_rows(folder / "metrics.jsonl"):
        value = row["metrics"].get(headline.name) if row["split"] == "validation" else None
        if value is not None and not headline.better(goal, value):
            return row
    return None


def last_until(folder: Path, step: int, headline: Headline) -> float | None:
    """Return a run's validation headline at the last evaluation within a number of steps, None if there is none."""
    found = None
    for row in metric_rows(folder / "metrics.jsonl"):
        if row["split"] == "validation" and row["step"] <= step:
            found = row["metrics"].get(headline.name, found)
    return found


# --- pairs of variants ---------------------------------------------------------------------------------------------


def _pairs(
    entries: Sequence[Mapping[str, Any]], sizes: Sequence[int | None], headline: Headline, out: Path
) -> list[dict[str, Any]]:
    pairs = []
    for size in sizes:
        by_example = {
            entry["name"]: _by_example(entry["runs"], headline, out) for entry in entries if entry["size"] == size
        }
        # The later variant minus the earlier: the baseline is what is subtracted.
        for second, first in itertools.combinations([entry for entry in entries if entry["size"] == size], 2):
            a, b = _by_seed(first["runs"], headline), _by_seed(second["runs"], headline)
            shared = [seed for seed in a if seed in b]
            if not shared:
                continue
            first_values, second_values = [a[seed] for seed in shared], [b[seed] for seed in shared]
            difference = paired_difference(first_values, second_values)
            interval = difference.interval
            beyond = new_data_interval(by_example[first["name"]], by_example[second["name"]])
            new_data, examples = beyond if beyond is not None else (None, None)
            if is_share(headline.name, first_values + second_values):
                interval, new_data = cut(interval, -1.0, 1.0), cut(new_data, -1.0, 1.0)
            pairs.append(
                {
                    "a": first["name"],
                    "b": second["name"],
                    "size": size,
                    "metric": headline.name,
                    "mean_difference": difference.mean,
                    "interval": interval,
                    "new_data_interval": new_data,
                    "test_examples": examples,
                    "p_value": difference.p_value,
                    "smallest_detectable": difference.smallest_detectable,
                    "n": difference.n,
                }
            )
    for pair, adjusted in zip(pairs, holm([pair["p_value"] for pair in pairs]), strict=True):
        pair["p_holm"] = adjusted
    return pairs


def _by_seed(runs: Sequence[Mapping[str, Any]], headline: Headline) -> dict[int, float]:
    return {run["seed"]: run["test"][headline.name] for run in runs if run["test"].get(headline.name) is not None}


def _by_example(runs: Sequence[Mapping[str, Any]], headline: Headline, out: Path) -> ArmResults:
    """Return the headline of every seed, and example by example where the run kept that."""
    found = {run["seed"]: read_test_examples(out / run["folder"], dict(run)) for run in runs if run["test_examples"]}
    return ArmResults(_by_seed(runs, headline), {seed: each for seed, each in found.items() if each is not None})


# --- what all runs share -------------------------------------------------------------------------------------------


def headline_of(results: Results) -> Headline | None:
    """Return the headline of the runs that are finished, None if there is no such run."""
    return next((Headline(**result["headline"]) for result in results.values()), None)


def _mean_of(runs: Sequence[Mapping[str, Any]], split: str, headline: Headline | None) -> float | None:
    if headline is None:
        return None
    values = [run[split][headline.name] for run in runs if run[split].get(headline.name) is not None]
    return math.fsum(values) / len(values) if values else None


def _environment(out: Path, planned: Sequence[PlannedRun]) -> dict[str, Any]:
    """Return versions and machine as a run recorded them: it may have run on another machine than this."""
    if config := _config(out, planned):
        return {"versions": config["versions"], "machine": config["machine"], "threads": config["threads"]}
    return {**environment(), "threads": planned[0].options.threads}


def _config(out: Path, planned: Sequence[PlannedRun]) -> dict[str, Any]:
    """Return what the first run that began wrote of itself, or nothing."""
    for run in planned:
        with contextlib.suppress(OSError, UnusableFolder):
            return read_config(run_folder(out, run))
    return {}


def _seeds(planned: Sequence[PlannedRun]) -> list[int]:
    return _distinct(run.seed for run in planned)


def _distinct(values: Iterable[Any]) -> list[Any]:
    distinct: list[Any] = []
    for value in values:
        if value not in distinct:
            distinct.append(value)
    return distinct
