"""``aleator check RECIPE``: whether a recipe keeps what the run loop promises, and which methods it can use."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from aleator.commands import flags, recipes
from aleator.commands.table import write_lines
from aleator.experiment import registry

_WIDTH = 16


def parts(recipe: type[Any]) -> dict[str, type[Any]]:
    """Return the dataclasses whose fields are the flags of ``aleator check``."""
    return {"recipe": recipe, "check": Check}


@dataclasses.dataclass(frozen=True)
class Check:
    """How a recipe is checked."""

    seed: int = 0
    """The seed of the steps that are taken."""


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return recipes.tree(parts)


def main(args: Sequence[str]) -> int:
    """Rehearse a recipe, try its methods, and return the exit code: 1 where something is wrong."""
    if (found := recipes.recipe_word("check", args)) is None:
        return 0
    name, words = found
    recipe, chosen = flags.parse(parts(registry.resolve(name)), words, prog=f"aleator check {name}")
    from aleator.experiment.rehearsal import rehearse

    write_lines(name)
    faults = 0
    for finding in rehearse(recipe, name, chosen.seed):
        _say(finding.subject, f"FAULT: {finding.fault}" if finding.fault else finding.holds)
        faults += bool(finding.fault)
    if faults:
        sys.stderr.write(f"aleator: {name} has a fault; see above\n")
        return 1
    for method, answer in _methods(recipe, chosen.seed):
        _say(method, answer)
    return 0


def _say(subject: str, answer: str) -> None:
    write_lines(f"  {subject:<{_WIDTH}}  {answer}")


def _methods(recipe: Any, seed: int) -> Iterator[tuple[str, str]]:
    """Yield for each method that the recipe inherits whether a step can be taken with it, and why not."""
    for method, arms in getattr(recipe, "arms_by_part", dict)().items():
        if not arms:
            continue
        words = " ".join(_flag(option, value) for option, value in arms[0].items() if value is not None)
        fault = _one_step(recipe, arms[0], method, seed)
        yield method, f"does not apply: {fault}" if fault else f"applies: {words}"


def _flag(option: str, value: Any) -> str:
    return f"--{option.replace('_', '-')}" + ("" if value is True else f" {value}")


def _one_step(recipe: Any, arm: dict[str, Any], method: str, seed: int) -> str:
    """Take a step with a method; return why that cannot be done, or nothing."""
    from aleator.experiment.accelerators import make_accelerator
    from aleator.experiment.own_lines import located
    from aleator.random import Streams

    try:
        options = dataclasses.replace(recipe, **arm)
        accelerator = make_accelerator(getattr(options, "precision", "float32"))
        streams = Streams(seed, accelerator.device)
        with streams.scope("init"):
            task = options.task(streams, accelerator)
        applies, why = options.applies_by_part(task).get(method, (True, ""))
        if not applies:
            return str(why)
        batch = next(iter(task.train_batches()))
        with streams.scope("step", rank=0):
            task.train_step(batch)
    except (ValueError, TypeError, RuntimeError, NotImplementedError) as error:
        return located(error)
    return ""
