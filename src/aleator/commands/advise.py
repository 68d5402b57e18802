"""``aleator advise RECIPE``: which methods pay on a task, within an hour, in words that hold."""

from __future__ import annotations

import dataclasses
import math
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from aleator.commands import flags, logs, recipes
from aleator.commands.table import write_lines
from aleator.experiment import RunOptions, registry

_FLAGS_OF_WHERE = ("out", "resume", "dry-run", "minutes", "workers", "ray")


@dataclass(frozen=True)
class Time:
    """How long to look, and how sure to be."""

    minutes: float = 60.0
    """Minutes for all: measuring, choosing on validation data, confirming on fresh seeds."""
    alpha: float = 0.05
    """The probability that any claim is false, over all looks of --resume together."""

    def __post_init__(self) -> None:
        """Check the numbers.

        Raises:
            ValueError: if one cannot be.
        """
        if not 0 < self.minutes < math.inf:
            raise ValueError(f"minutes must be positive and finite, got {self.minutes}")
        if not 0 < self.alpha < 1:
            raise ValueError(f"alpha must be in (0, 1), got {self.alpha}")


@dataclass(frozen=True)
class Where(recipes.Workers):
    """Where the runs are carried out, and where their results go."""

    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    """Only measure the task and tell what the minutes afford."""
    out: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/RECIPE/advise-TIME-ID)")
    ] = None
    """The folder for everything that is written."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Finish the advice that is in the folder; one that is finished goes on for --minutes, if they are given. Nothing
    but --out needs to be given then."""


@dataclass(frozen=True)
class EachRun(RunOptions):
    """How each run is carried out."""

    evaluate_every: tyro.conf.Suppress[int | None] = None  # trials at their ends, confirming runs twenty times
    keep_checkpoints: tyro.conf.Suppress[int] = 0


def parts(recipe: type[Any]) -> dict[str, type[Any]]:
    """Return the dataclasses whose fields are the flags of ``aleator advise``."""
    return {"recipe": recipe, "time": Time, "workers": Where, "run": EachRun}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return recipes.tree(parts)


def main(args: Sequence[str]) -> int:
    """Find out what pays, and return the exit code."""
    if "--resume" in args and not {"-h", "--help"} & set(args):
        return _resume(args)
    if (found := recipes.recipe_word("advise", args)) is None:
        return 0
    name, words = found
    return _advise(name, words, ["aleator", "advise", *args], further=True)


def _resume(args: Sequence[str]) -> int:
    """Go on in a folder: its command is in the folder. Only the minutes and the workers may be others."""
    from aleator.experiment import record
    from aleator.experiment.advice.session import FILE

    again = "give the command again, without --resume"
    out, document, name, began, words = recipes.begun(args, "advise", FILE, "advice", "advice on", again)
    given = flags.given(words)
    if other := sorted(given.difference(_FLAGS_OF_WHERE)):
        raise ValueError(f"--{other[0]} cannot be given with --resume, which goes on with the options in the folder")
    with record.where_it_was(document, out) as out:
        asked = flags.without(began, given) + words
        record.check_nothing_hidden({word: word for word in asked}, out)
        further = "minutes" in given
        return _advise(name, [*asked, "--out", str(out)], document["command"], further=further)


def _advise(name: str, words: Sequence[str], command: list[str], further: bool) -> int:
    recipe, time, where, each = flags.parse(parts(registry.resolve(name)), words, prog=f"aleator advise {name}")
    if not hasattr(recipe, "arms_by_part"):
        raise ValueError(f"recipe {name} cannot be advised on: its methods are not parts, as those of Supervised are")
    asked = {
        "name": name,
        "arms": recipe.arms_by_part(),
        "minutes": time.minutes,
        "options": RunOptions(**dataclasses.asdict(each)),
        "workers": where.workers,
        "ray": where.ray,
    }
    from aleator.experiment.advice.advise import advise, dry_run
    from aleator.experiment.record import redacted
    from aleator.experiment.signals import Interrupted

    try:
        if where.dry_run:
            write_lines(*dry_run(recipe, **asked))
            return 0
        from aleator.commands.probe import probe_job

        if not further:
            asked["minutes"] = None
        with recipes.folder(name, where.out, "advise-") as out:
            try:
                with logs.shown():
                    document = advise(recipe, **asked, alpha=time.alpha, out=out, probe=probe_job, command=command)
            except (Interrupted, KeyboardInterrupt) as interruption:
                reason = str(interruption) or "interrupted; finished runs are kept"
                again = ["aleator", "advise", "--out", str(out), "--resume"]
                sys.stderr.write(f"aleator: {reason}: {shlex.join(redacted(again))}\n")
                return 130
            return _show(document, out)
    except RuntimeError as error:
        sys.stderr.write(f"aleator: {' '.join(str(error).split())}\n")
        return 1


def _show(document: dict[str, Any], out: Path) -> int:
    from aleator.experiment.report import write_report

    write_lines("", *document["answer"], "")
    write_lines(f"report: {write_report(out)}", f"script: {out / 'advice.py'}")
    return 0
