"""``advice.py``: the winner, or the baseline, with its tuned settings, in a loop of the user's own."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from aleator.experiment import registry
from aleator.experiment.advice.arms import BASELINE, OWN
from aleator.experiment.advice.session import Session
from aleator.experiment.files import write_text
from aleator.experiment.identity import options_of
from aleator.experiment.record import redacted

_SCRIPT = '''"""{title}

Written by `aleator advise`; see report.html beside it. The same as a run of the house, with logs and checkpoints:

    {command}
"""

import sys

from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.identity import recipe_from
from aleator.random import Streams

OPTIONS = {options}

SETTINGS = {settings}
# {explained}


def main(seed: int = 0) -> None:
    recipe = recipe_from({recipe!r}, OPTIONS | SETTINGS)
    accelerator = make_accelerator(getattr(recipe, "precision", "float32"))
    streams = Streams(seed, accelerator.device)
    with streams.scope("init"):
        task = recipe.task(streams, accelerator)
    progress, step = 0, 0
    for batch in task.train_batches():
        with streams.scope("step", rank=0):
            result = task.train_step(batch)
        progress, step = progress + result.progress, step + 1
        if step % 100 == 0:
            loss = {{name: float(value) for name, value in result.metrics.items()}}
            print(step, loss)
        if progress >= task.budget.total or result.stop:
            break
    with streams.scope("evaluate", rank=0):
        print("validation", dict(task.evaluate("validation")))
    # task.model is the trained network. Test data are for the very end:
    # print("test", dict(task.evaluate("test")))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
'''


def write_script(session: Session) -> None:
    """Write ``advice.py`` for what the advice comes to: the arm that is best among those claimed, else the baseline."""
    document = session.document
    if not document.get("arms") or "winner" not in document:
        return
    settings, steps, title = _winner(document, registry.short(document["recipe"]))
    recipe = session.changed(settings, steps)
    options = redacted(options_of(session.recipe))
    changed = {name: value for name, value in redacted(options_of(recipe)).items() if value != options[name]}
    words = [f"--{name.replace('_', '-')}{_value(value)}" for name, value in {**_given(session), **changed}.items()]
    command = f"aleator run {shlex.quote(document['recipe'])} {' '.join(words)}"
    text = _SCRIPT.format(
        title=title.replace('"""', "'''"),
        command=command,
        recipe=registry.absolute(document["recipe"]),
        options=_dict(options),
        settings=_dict(changed),
        explained="what the advice changes of the options above; steps fill the time of a run as it was given",
    )
    write_text(session.out / "advice.py", text)


def _winner(document: Mapping[str, Any], recipe: str) -> tuple[Mapping[str, Any], int | None, str]:
    name = document["winner"]
    if name == OWN:
        return {}, None, f"{recipe} as it was given, which is better than tuned."
    if name in document["confirmed"]:
        known = document["confirmed"][name]
        return known["changes"], known["steps"], f"{recipe} with {name}, which is better than without."
    entry = document["arms"].get(BASELINE, {})
    best = entry.get("best")
    if best is None:
        return {}, None, f"{recipe} as it was given."
    changes = entry["trials"][str(best)]["changes"]
    how = "with its tuned settings" if changes else "as it was given, which tuning did not improve"
    return changes, entry["steps"], f"{recipe} {how}; no method was found to be better."


def _given(session: Session) -> dict[str, Any]:
    """Return the options that are not the recipe's defaults."""
    given = redacted(options_of(session.recipe))
    usual = {
        field.name: field.default
        for field in dataclasses.fields(session.recipe)
        if field.default is not dataclasses.MISSING
    }
    return {name: value for name, value in given.items() if name not in usual or value != _listed(usual[name])}


def _listed(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _value(value: Any) -> str:
    if value is True:
        return ""
    if isinstance(value, list):
        return "".join(f" {shlex.quote(str(item))}" for item in value)
    return f" {shlex.quote(str(value))}"


def _dict(values: Mapping[str, Any]) -> str:
    lines = "".join(f"    {name!r}: {value!r},\n" for name, value in values.items())
    return "{\n" + lines + "}" if lines else "{}"
