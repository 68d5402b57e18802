"""Readers of a results folder: the JSON of a comparison or of a run, as plain records.

Everything a page shows comes from here. What must be there to make sense of the rest (recipe, headline, variants) is
required; what a run that failed or is still missing cannot have is None. Paths inside the JSON are followed only
below the folder itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from aleator.experiment.exhibit import Exhibit, read_exhibits
from aleator.experiment.files import read_json
from aleator.experiment.protocol import Headline
from aleator.experiment.tracking import metric_rows

Interval = tuple[float, float]

MOST_ROWS = 20_000
"""Rows of one split that are kept of a log."""


@dataclass(frozen=True)
class LogLine:
    """One line of metrics.jsonl: finite metrics of a split after ``step`` steps and ``seconds`` of training."""

    step: int
    seconds: float
    split: str
    metrics: dict[str, float]


@dataclass(frozen=True)
class Run:
    """One seed of one variant. ``folder`` is relative to the comparison and exists, or is None."""

    seed: int
    status: str
    folder: str | None
    steps: int | None
    examples: int | None
    seconds: dict[str, float]
    peak_memory_bytes: int | None
    validation: dict[str, float]
    test: dict[str, float]
    accuracy_interval: Interval | None
    log: list[LogLine]

    @property
    def done(self) -> bool:
        """Whether the run reached its end."""
        return self.status == "done"


@dataclass(frozen=True)
class Summary:
    """Mean of a test metric over ``n`` seeds and its 95 % interval, or None where ``n`` seeds cannot give one."""

    mean: float
    interval: Interval | None
    n: int


@dataclass(frozen=True)
class Target:
    """Steps, examples and training seconds each seed needed to reach ``target`` on ``split``; None where it did not.

    ``source`` is ``"baseline"`` where the target is what the first variant reached. ``examples`` is empty where an
    older comparison did not write them down.
    """

    target: float
    source: str
    split: str
    steps: list[int | None]
    examples: list[int | None]
    seconds: list[float | None]


@dataclass(frozen=True)
class Trial:
    """One value of the tuned field: the mean validation headline of ``n`` finished seeds."""

    tuned: dict[str, Any]
    validation: float | None
    n: int


@dataclass(frozen=True)
class Variant:
    """A column of the comparison at one training size. ``label`` is unique among the variants of that size."""

    label: str
    changed: dict[str, Any]
    tuned: dict[str, Any]
    size: int | None
    runs: list[Run]
    summary: dict[str, Summary]
    target: Target | None
    trials: list[Trial]

    @property
    def finished(self) -> list[Run]:
        """The runs that reached their end."""
        return [run for run in self.runs if run.done]


@dataclass(frozen=True)
class Pair:
    """The paired difference a − b of one metric at one training size.

    ``p_holm`` is adjusted for all pairs of the comparison; None where there was no test, or in an older file.
    ``new_data`` is the interval that includes ``test_examples`` test examples, None where runs kept no results of each.
    """

    a: str
    b: str
    size: int | None
    mean: float
    interval: Interval | None
    p_value: float | None
    p_holm: float | None
    smallest_detectable: float | None
    n: int
    new_data: Interval | None = None
    test_examples: int | None = None

    @property
    def holds(self) -> bool:
        """Whether the difference is significant at 5 % with all pairs of the comparison taken into account."""
        return self.p_holm is not None and self.p_holm <= 0.05

    @property
    def reading(self) -> Literal["excludes zero", "includes zero", "no interval"]:
        """What the interval says about zero."""
        if self.interval is None:
            return "no interval"
        low, high = self.interval
        return "excludes zero" if low > 0 or high < 0 else "includes zero"


@dataclass(frozen=True)
class SizeForecast:
    """What a variant's sizes say of another one. Where scores do not get better with size there is no forecast.

    ``flags`` belong to the trend; ``prediction`` and ``decision`` are the sizes from which its asymptote was calm, and
    at which that was known. ``needed`` is the size that has the test headline ``target``, None where the trend never
    has. ``points`` are (size, trend), ``low`` and ``high`` the band there.
    """

    name: str
    sizes: list[int]
    horizon: int
    source: str
    forecast: float | None
    band: Interval | None
    asymptote: float | None
    flags: list[str]
    prediction: int | None
    decision: int | None
    target: float | None
    needed: float | None
    points: list[tuple[float, float]]
    low: list[float]
    high: list[float]


@dataclass(frozen=True)
class Failure:
    """A run that failed or was interrupted.

    ``of`` tells it from the variant's other runs with that seed; ``log`` is a path below the folder, if that exists.
    """

    variant: str
    of: str
    seed: int | None
    error: str
    log: str | None


@dataclass(frozen=True)
class Comparison:
    """All of comparison.json that a page shows, with the logs of its runs. No finished run: no headline is known."""

    recipe: str
    headline: Headline | None
    seeds: list[int]
    sizes: list[int | None]
    tune: dict[str, Any] | None
    variants: list[Variant]
    pairs: list[Pair]
    forecasts: list[SizeForecast]
    failures: list[Failure]
    planned: int
    finished: int
    command: list[str]
    environment: dict[str, Any]
    created: str

    def at(self, size: int | None) -> list[Variant]:
        """The variants of one training size, in the order they were given."""
        return [variant for variant in self.variants if variant.size == size]

    def pairs_at(self, size: int | None) -> list[Pair]:
        """The paired differences of one training size."""
        return [pair for pair in self.pairs if pair.size == size]


@dataclass(frozen=True)
class SingleRun:
    """All of a run folder that a page shows. ``result`` is None when the run has not finished."""

    config: dict[str, Any]
    result: dict[str, Any] | None
    log: list[LogLine]
    exhibits: list[Exhibit]


def read_comparison(folder: Path) -> Comparison:
    """Read ``folder/comparison.json`` and the metrics of its runs.

    Raises:
        ValueError: if a file is damaged, of another schema version, or not what its name says.
    """
    path = folder / "comparison.json"
    document = read_json(path)
    try:
        return _comparison(folder, document)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not a comparison that this library wrote: {error!r}") from error


def read_run(folder: Path) -> SingleRun:
    """Read the config, the result if there is one, and the metrics of a run's folder.

    Raises:
        ValueError: if a file is damaged, of another schema version, or not what its name says.
    """
    config = read_json(folder / "config.json")
    result = read_json(folder / "result.json") if (folder / "result.json").is_file() else None
    if "recipe" not in config:
        raise ValueError(f"{folder / 'config.json'} is not the config of a run: it has no 'recipe'")
    if result is not None and not {"headline", "test", "validation"} <= result.keys():
        raise ValueError(
            f"{folder / 'result.json'} is not the result of a run: headline, test or validation is missing"
        )
    return SingleRun(config, result, read_log(folder), read_exhibits(folder))


def read_log(folder: Path) -> list[LogLine]:
    """Read ``folder/metrics.jsonl``, in the order of steps.

    Of a split with more rows than a page has use for, every second, fourth, eighth … and the last are kept, so that the
    log of a week takes no more memory than the log of an hour.
    """
    kept: dict[str, list[LogLine]] = {}
    strides: dict[str, int] = {}
    newest: dict[str, tuple[int, LogLine]] = {}
    for row in metric_rows(folder / "metrics.jsonl"):
        split = row["split"]
        line = LogLine(row["step"], row["seconds"], split, _finite(row["metrics"]))
        number = newest[split][0] + 1 if split in newest else 0
        newest[split] = (number, line)
        lines, stride = kept.setdefault(split, []), strides.setdefault(split, 1)
        if number % stride == 0:
            lines.append(line)
        if len(lines) > MOST_ROWS:
            del lines[1::2]
            strides[split] = 2 * stride
    for split, (number, line) in newest.items():
        if number % strides[split]:
            kept[split].append(line)
    return sorted((line for lines in kept.values() for line in lines), key=lambda line: line.step)


def _comparison(folder: Path, document: dict[str, Any]) -> Comparison:
    named = document["headline"]
    headline = Headline(named["name"], named["direction"]) if named else None
    entries = document["variants"]
    keys = [(entry["name"], entry.get("size")) for entry in entries]
    variants = [_variant(folder, entry, keys.count(key) > 1) for entry, key in zip(entries, keys, strict=True)]
    return Comparison(
        recipe=document["recipe"],
        headline=headline,
        seeds=list(document["seeds"]),
        sizes=list(dict.fromkeys(variant.size for variant in variants)),
        tune=document.get("tune"),
        variants=variants,
        pairs=[_pair(entry) for entry in document.get("pairs") or [] if headline and entry["metric"] == headline.name],
        forecasts=[_size_forecast(entry) for entry in document.get("forecasts") or []],
        failures=[_failure(folder, entry) for entry in document.get("failures") or []],
        planned=document["planned_runs"],
        finished=document["finished_runs"],
        command=list(document.get("command") or []),
        environment=document.get("environment") or {},
        created=document.get("created") or "",
    )


def _variant(folder: Path, entry: dict[str, Any], ambiguous: bool) -> Variant:
    tuned = entry.get("tuned") or {}
    chosen = ", ".join(f"{name}={value}" for name, value in tuned.items())
    return Variant(
        label=f"{entry['name']} ({chosen})" if ambiguous and chosen else str(entry["name"]),
        changed=entry.get("changed") or {},
        tuned=tuned,
        size=entry.get("size"),
        runs=[_run(folder, run) for run in entry["runs"]],
        summary={
            name: Summary(float(value["mean"]), _interval(value.get("interval")), int(value["n"]))
            for name, value in (entry.get("summary") or {}).items()
            if name != "examples" and value.get("mean") is not None
        },
        target=_target(entry.get("to_target")),
        trials=[Trial(trial["tuned"], trial.get("validation"), trial["n"]) for trial in entry.get("trials") or []],
    )


def _target(entry: dict[str, Any] | None) -> Target | None:
    if not entry:
        return None
    source = entry.get("source") or "given"
    examples = list(entry.get("examples") or [])
    return Target(
        float(entry["target"]), source, entry["split"], list(entry["steps"]), examples, list(entry["seconds"])
    )


def _run(folder: Path, entry: dict[str, Any]) -> Run:
    place = _inside(folder, entry.get("folder"))
    return Run(
        seed=int(entry["seed"]),
        status=str(entry["status"]),
        folder=place,
        steps=entry.get("steps"),
        examples=entry.get("examples"),
        seconds=_finite(entry.get("seconds") or {}),
        peak_memory_bytes=entry.get("peak_memory_bytes"),
        validation=_finite(entry.get("validation") or {}),
        test=_finite(entry.get("test") or {}),
        accuracy_interval=_interval(entry.get("accuracy_interval")),
        log=read_log(folder / place) if place is not None else [],
    )


def _pair(entry: dict[str, Any]) -> Pair:
    return Pair(
        a=entry["a"],
        b=entry["b"],
        size=entry.get("size"),
        mean=float(entry["mean_difference"]),
        interval=_interval(entry.get("interval")),
        p_value=entry.get("p_value"),
        p_holm=entry.get("p_holm"),
        smallest_detectable=entry.get("smallest_detectable"),
        n=int(entry["n"]),
        new_data=_interval(entry.get("new_data_interval")),
        test_examples=entry.get("test_examples"),
    )


def _size_forecast(entry: dict[str, Any]) -> SizeForecast:
    target, curve = entry.get("target") or {}, entry["curve"]
    return SizeForecast(
        name=str(entry["name"]),
        sizes=list(entry["sizes"]),
        horizon=entry["horizon"],
        source=entry["horizon_source"],
        forecast=entry.get("forecast"),
        band=_interval(entry.get("band")),
        asymptote=entry.get("asymptote"),
        flags=list(entry.get("flags") or []),
        prediction=entry.get("prediction_size"),
        decision=entry.get("decision_size"),
        target=target.get("value"),
        needed=target.get("size"),
        points=list(zip(curve["x"], curve["trend"] or [], strict=False)),
        low=curve.get("low") or [],
        high=curve.get("high") or [],
    )


def _failure(folder: Path, entry: dict[str, Any]) -> Failure:
    parts = [f"size {entry['size']}"] if entry.get("size") is not None else []
    parts += [f"{name}={value}" for name, value in (entry.get("tuned") or {}).items()]
    error = str(entry.get("error") or entry.get("status") or "")
    return Failure(str(entry["variant"]), ", ".join(parts), entry.get("seed"), error, _inside(folder, entry.get("log")))


def _inside(folder: Path, relative: Any) -> str | None:
    """Return a relative path that exists below ``folder``, or None: a report links and reads nothing else."""
    if not isinstance(relative, str) or not relative:
        return None
    root = folder.resolve()
    place = (root / relative).resolve()
    return place.relative_to(root).as_posix() if place.is_relative_to(root) and place.exists() else None


def _interval(value: Any) -> Interval | None:
    return None if value is None or None in value else (float(value[0]), float(value[1]))


def _finite(metrics: dict[str, Any]) -> dict[str, float]:
    """Keep the numbers. JSON has no NaN: a metric that was not finite was written as null."""
    return {name: float(value) for name, value in metrics.items() if value is not None and math.isfinite(value)}
