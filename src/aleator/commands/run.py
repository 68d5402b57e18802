"""``aleator run RECIPE``: one run of one recipe, into a folder that nothing else writes to."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from aleator.commands import flags, logs, recipes
from aleator.commands.table import write_lines, write_table
from aleator.experiment import Interrupted, RunOptions, registry
from aleator.experiment.files import described
from aleator.experiment.identity import options_of


@dataclass(frozen=True)
class Output:
    """Where a run goes."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/RECIPE/TIME-ID)")] = (
        None
    )
    """The folder for everything the run writes."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Continue the run that is in the folder from its newest checkpoint. Nothing but --out needs to be given then."""


def parts(recipe: type[Any]) -> dict[str, type[Any]]:
    """Return the dataclasses whose fields are the flags of ``aleator run``."""
    return {"recipe": recipe, "run": RunOptions, "output": Output}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return recipes.tree(parts)


def main(args: Sequence[str]) -> int:
    """Run a recipe and return the exit code."""
    if "--resume" in args and not {"-h", "--help"} & set(args):
        return _resume(args)
    if (found := recipes.recipe_word("run", args)) is None:
        return 0
    name, words = found
    recipe, run_options, output = flags.parse(parts(registry.resolve(name)), words, prog=f"aleator run {name}")
    if output.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("--out is missing: the processes of one run need the same folder")
    from aleator.experiment import loop  # before a folder is made: an interruption meanwhile leaves nothing behind

    command = ["aleator", "run", *args]
    with recipes.folder(name, output.out) as out:
        return _report(out, lambda: loop.run(recipe, out, run_options, name=name, command=command))


def _resume(args: Sequence[str]) -> int:
    """Continue the run in a folder: what it is, the folder says; what is given as well must agree."""
    from aleator.experiment import loop, record

    out = recipes.folder_to_resume(args, "config.json", "run")
    config = record.read_config(out)
    named, words = (args[0], args[1:]) if not args[0].startswith("-") else (None, args)
    name = registry.absolute(named or record.recipe_spec(config, out))
    if (here := registry.short(config["recipe"])) != registry.short(name):
        raise ValueError(f"{out} holds a run of recipe {here!r}, not of {registry.short(name)!r}")
    with record.where_it_was(config, out) as out:
        kept = (*record.recorded(name, config, out), Output())
        recipe, run_options, _ = flags.parse(parts(type(kept[0])), words, prog=f"aleator run {name}", defaults=kept)
        record.check_nothing_hidden(options_of(recipe), out)
        command = ["aleator", "run", *args]
        return _report(out, lambda: loop.run(recipe, out, run_options, name=name, resume=True, command=command))


def _report(out: Path, run: Callable[[], dict[str, Any]]) -> int:
    """Carry a run out and say how it ended."""
    from aleator.experiment import loop

    try:
        with logs.shown(out / "run.log"):
            result = run()
    except (Interrupted, KeyboardInterrupt) as interruption:
        return _interrupted(out, str(interruption))
    except loop.RunFailed as error:
        return _failed(out, error)
    if int(os.environ.get("RANK", "0")) == 0:
        from aleator.experiment.report import write_report

        _show(result)
        write_lines(f"report: {write_report(out)}")
    return 0


def _interrupted(out: Path, reason: str) -> int:
    if any((out / "checkpoints").glob("step-*")):
        again = shlex.join(["aleator", "run", "--out", str(out), "--resume"])
        reason = reason or "interrupted; the state of the last checkpoint is saved"
        sys.stderr.write(f"aleator: {reason}; resume with: {again}\n")
    else:
        sys.stderr.write("aleator: interrupted before there was anything to save\n")
    return 130


def _failed(out: Path, error: Exception) -> int:
    log = out / "run.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8", errors="backslashreplace") as file:
            file.write("".join(traceback.format_exception(error)))
        where = f"log: {log}"
    except OSError as full:  # of the two, the run's failure is the news
        where = f"no log: {described(full)}"
    sys.stderr.write(f"aleator: the run failed: {described(error)} ({where})\n")
    return 1


def _show(result: dict[str, Any]) -> None:
    headline = result["headline"]["name"]
    metrics = [headline, *(name for name in result["test"] if name not in (headline, "examples"))]
    rows = [
        (split, *("" if (value := result[split].get(name)) is None else f"{value:.4g}" for name in metrics))
        for split in ("validation", "test")
    ]
    stopped = f"; {result['stopped']}" if result["stopped"] else ""
    length = f"{result['progress']} {result['unit']} in {result['seconds']['train']:.1f} s of training{stopped}"
    write_table(f"{result['recipe']}, seed {result['seed']}: {length}", ("", *metrics), rows)
