"""``aleator run RECIPE``: one run of one recipe, into a folder that nothing else writes to."""

from __future__ import annotations

import os
import shlex
import sys
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from aleator.commands import flags, logs, recipes
from aleator.commands.table import write_lines, write_table
from aleator.experiment import Interrupted, RunOptions, registry


@dataclass(frozen=True)
class Output:
    """Where a run goes."""

    out: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: runs/RECIPE/TIME-ID)")] = (
        None
    )
    """The folder for everything the run writes."""
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    """Continue the run that is in the folder from its newest checkpoint."""


def parts(recipe: type[Any]) -> dict[str, type[Any]]:
    """Return the dataclasses whose fields are the flags of ``aleator run``."""
    return {"recipe": recipe, "run": RunOptions, "output": Output}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return recipes.tree(parts)


def main(args: Sequence[str]) -> int:
    """Run a recipe and return the exit code."""
    if (found := recipes.recipe_word("run", args)) is None:
        return 0
    name, words = found
    recipe, run_options, output = flags.parse(parts(registry.resolve(name)), words, prog=f"aleator run {name}")
    if output.out is None:
        if output.resume:
            raise ValueError("--out is missing: --resume needs the folder of the run to continue")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise ValueError("--out is missing: the processes of one run need the same folder")
    from aleator.experiment import loop  # before a folder is made: an interruption meanwhile leaves nothing behind

    command = ["aleator", "run", *args]
    with recipes.folder(name, output.out) as out:
        try:
            with logs.shown(out / "run.log"):
                result = loop.run(recipe, out, run_options, name=name, resume=output.resume, command=command)
        except (Interrupted, KeyboardInterrupt) as interruption:
            return _interrupted(out, str(interruption), command, output)
        except loop.RunFailed as error:
            return _failed(out, error)
    if int(os.environ.get("RANK", "0")) == 0:
        from aleator.experiment.report import write_report

        report = write_report(out)
        _show(result)
        write_lines(f"report: {report}")
    return 0


def _interrupted(out: Path, reason: str, command: list[str], output: Output) -> int:
    if any((out / "checkpoints").glob("step-*")):
        words = [*command, *([] if output.out else ["--out", str(out)]), *([] if output.resume else ["--resume"])]
        reason = reason or "interrupted; the state of the last checkpoint is saved"
        sys.stderr.write(f"aleator: {reason}; resume with: {shlex.join(words)}\n")
    else:
        sys.stderr.write("aleator: interrupted before there was anything to save\n")
    return 130


def _failed(out: Path, error: Exception) -> int:
    log = out / "run.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        file.write("".join(traceback.format_exception(error)))
    reason = " ".join(str(error).split())
    sys.stderr.write(f"aleator: the run failed: {reason} (log: {log})\n")
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
