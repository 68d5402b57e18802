"""``aleator compare RECIPE --variant …``: variants of a recipe over several seeds, and what tells them apart."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aleator.commands import flags, logs, recipes
from aleator.commands.table import write_lines, write_table
from aleator.commands.variants import tuned, variants
from aleator.experiment import RunOptions, registry

if TYPE_CHECKING:
    from aleator.experiment.report.read import Comparison

MOST_SEEDS = 10_000


@dataclass(frozen=True)
class Grid:
    """What is compared, and on how many runs."""

    variant: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar="NAME[:FIELD=VALUE,…]")] = ()
    """A name, and the fields in which it differs from the plain flags. The first variant is the baseline."""
    seeds: int = 3
    """Run every variant with the seeds 0 … N-1. One seed gives no interval."""
    sizes: tuple[int, ...] = ()
    """Training sizes, put into the recipe's field train_size; a smaller training set is part of a larger one. Three or
    more have a trend, which forecasts the headline at --horizon; whether to trust it is known from five on."""
    horizon: int | None = None
    """Forecast the headline at this training size. Default: the whole training set, or twice the largest size where the
    recipe does not say how large that is."""
    tune: Annotated[str | None, tyro.conf.arg(metavar="FIELD=V1,V2,…")] = None
    """A field and its values. Each variant tries all and keeps the one that is best on validation."""
    target: float | None = None
    """Report the steps and the time to this value of the headline on validation; accuracies are between 0 and 1.
    Default: the baseline's mean. With three sizes or more, also forecast the size at which the test headline has it."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if there is no seed, or too many to plan, or the target is no number.
        """
        if self.target is not None and not math.isfinite(self.target):
            raise ValueError(f"target must be finite, got {self.target}")
        if self.seeds > MOST_SEEDS:
            raise ValueError(f"seeds must be at most {MOST_SEEDS}, got {self.seeds}")
        if self.seeds < 1:
            raise ValueError(f"seeds must be at least 1, got {self.seeds}")


@dataclass(frozen=True)
class Where(recipes.Workers):
    """Where the runs are carried out, and where their results go."""

    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only tell the number of runs, the time and the disk they would take."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/RECIPE/compare-TIME-ID)")
    ] = None
    """The folder for everything the comparison writes. The same command with the same folder goes on there."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Go on with the comparison that is in the folder. Nothing but --out needs to be given then."""


@dataclass(frozen=True)
class EachRun(RunOptions):
    """How each run is carried out."""

    seed: tyro.conf.Suppress[int] = 0  # --seeds says which


def parts(recipe: type[Any]) -> dict[str, type[Any]]:
    """Return the dataclasses whose fields are the flags of ``aleator compare``."""
    return {"recipe": recipe, "comparison": Grid, "workers": Where, "run": EachRun}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return recipes.tree(parts)


def main(args: Sequence[str]) -> int:
    """Carry out a comparison and return the exit code."""
    if "--resume" in args and not {"-h", "--help"} & set(args):
        return _resume(args)
    return _begin(args, ["aleator", "compare", *args])


def _begin(args: Sequence[str], command: list[str]) -> int:
    if (found := recipes.recipe_word("compare", args)) is None:
        return 0
    name, words = found
    base, grid, where, each = _parsed(name, words)
    tune = tuned(base, grid.tune) if grid.tune else None
    if tune is not None:  # options of a variant may fit only together with what is tuned
        base = dataclasses.replace(base, **{tune[0]: tune[1][0]})
    plan = {
        "name": name,
        "seeds": range(grid.seeds),
        "sizes": grid.sizes or None,
        "tune": tune,
        "horizon": grid.horizon,
        "options": RunOptions(**dataclasses.asdict(each)),
    }
    compared = variants(base, grid.variant)
    if where.dry_run:
        return _tell(compared, plan, where)
    return _compare(compared, plan, grid, where, command)


def _parsed(name: str, words: Sequence[str]) -> list[Any]:
    kind = registry.resolve(name)
    return flags.parse(parts(kind), words, prog=f"aleator compare {name}", apart=parts(flags.unchecked(kind)))


def _resume(args: Sequence[str]) -> int:
    """Go on with the comparison in a folder: its command is in the folder; what is given as well must agree."""
    from aleator.experiment import record

    again = "give the command of the comparison again, without --resume"
    out, document, name, began, words = recipes.begun(
        args, "compare", "comparison.json", "comparison", "a comparison of", again
    )
    asked = flags.without(began, flags.given(words)) + words
    with record.where_it_was(document, out) as out:
        for kept, got in zip(_parsed(name, began), _parsed(name, asked), strict=True):
            for field in dataclasses.fields(kept) if not isinstance(kept, Where) else ():
                before, after = (record.redacted(getattr(part, field.name)) for part in (kept, got))
                if before != after:
                    raise ValueError(f"{field.name} must be {before} as in the comparison in {out}, got {after}")
        record.check_nothing_hidden({word: word for word in asked}, out)
        return _begin([name, *asked, "--out", str(out)], ["aleator", "compare", name, *asked])


def _compare(compared: list[Any], plan: dict[str, Any], grid: Grid, where: Where, command: list[str]) -> int:
    from aleator.experiment.comparison.execute import compare
    from aleator.experiment.record import redacted
    from aleator.experiment.signals import Interrupted

    with recipes.folder(plan["name"], where.out, "compare-") as out:
        try:
            with logs.shown():
                result = compare(
                    compared, **plan, out=out, target=grid.target, workers=where.workers, ray=where.ray, command=command
                )
        except (Interrupted, KeyboardInterrupt) as interruption:
            reason = str(interruption) or "interrupted; finished runs are kept"
            words = ["aleator", "compare", "--out", str(out), "--resume"]
            if not (out / "comparison.json").exists():
                words = command if where.out else [*command, "--out", str(out)]
            sys.stderr.write(f"aleator: {reason}: {shlex.join(redacted(words))}\n")
            return 130
    _show(out)
    if failed := len(result["failures"]):
        sys.stderr.write(f"aleator: {failed} of {result['planned_runs']} runs failed (logs: {out}/runs/*/run.log)\n")
        return 1
    return 0


def _tell(compared: list[Any], plan: dict[str, Any], where: Where) -> int:
    from aleator.experiment.comparison.execute import dry_run

    try:
        write_lines(*dry_run(compared, **plan, out=where.out, workers=where.workers, ray=where.ray))
    except RuntimeError as error:
        sys.stderr.write(f"aleator: {' '.join(str(error).split())}\n")
        return 1
    return 0


def _show(out: Path) -> None:
    from aleator.experiment.report import write_report
    from aleator.experiment.report.read import read_comparison
    from aleator.experiment.report.words import (
        column_decimals,
        difference,
        difference_interval,
        interval,
        measured,
        multiplicity,
        p_value,
        verdict,
    )

    report = write_report(out)
    comparison = read_comparison(out)
    metric = comparison.headline.name if comparison.headline else ""  # which it is, a run that has finished says
    for size in comparison.sizes if metric else ():
        baseline = comparison.at(size)[0].label
        against = {pair.a: pair for pair in comparison.pairs_at(size) if pair.b == baseline}
        places = column_decimals(metric, ((pair.mean, pair.interval) for pair in against.values()))
        rows = []
        for variant in comparison.at(size):
            mean, pair = variant.summary.get(metric), against.get(variant.label)
            rows.append(
                (
                    ", ".join([variant.label, *(f"{name}={value}" for name, value in variant.tuned.items())]),
                    str(len(variant.finished)),
                    measured(metric, mean.mean if mean else None),
                    interval(metric, mean.interval if mean else None),
                    difference(metric, pair.mean if pair else None, places=places),
                    difference_interval(metric, pair.interval if pair else None, places),
                    p_value(pair.p_holm if pair else None),
                )
            )
        title = f"{comparison.recipe}, test {metric}" + (f", {size} training examples" if size is not None else "")
        headings = (
            "variant",
            "seeds",
            "mean",
            "95 % interval",
            f"minus {baseline}",
            "95 % interval, paired",
            "p, Holm",
        )
        write_table(title, headings, rows)
        write_lines(verdict(comparison, size), "")
    if said := multiplicity(comparison.pairs):
        write_lines(said, "")
    if comparison.forecasts:
        _show_forecasts(comparison, metric)
    write_lines(f"report: {report}")


def _show_forecasts(comparison: Comparison, metric: str) -> None:
    from aleator.experiment.report.words import forecast_cells, forecast_head, trend_note

    head = forecast_head(metric, comparison.forecasts)
    rows = [
        (found.name, *forecast_cells(metric, found, with_target=len(head) > 3), trend_note(found))
        for found in comparison.forecasts
    ]
    title = f"{comparison.recipe}, test {metric} forecast from {len(comparison.forecasts[0].sizes)} sizes"
    write_table(title, ("variant", *head, "trend"), rows)
