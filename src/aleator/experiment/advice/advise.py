"""Advice on a task: measured, tuned alike, confirmed, answered; and ``advice.json`` written at every step.

    look 1: measure → choose → confirm;     every further look: choose among what is left → confirm on fresh seeds

An interrupted look is finished by the same call: finished runs are kept, unfinished ones go on from their checkpoints.
One process at a time works in a folder.
"""

from __future__ import annotations

import contextlib
import logging
import math
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from aleator.experiment import registry
from aleator.experiment.advice.answer import conclude
from aleator.experiment.advice.arms import arms_of
from aleator.experiment.advice.choosing import best_pair, choose
from aleator.experiment.advice.confirming import confirm
from aleator.experiment.advice.measuring import measure
from aleator.experiment.advice.plan import affordable
from aleator.experiment.advice.script import write_script
from aleator.experiment.advice.session import FILE, Session
from aleator.experiment.comparison.execute import make_crew
from aleator.experiment.comparison.workers import Work, modules_of
from aleator.experiment.files import clear_left_overs, read_json
from aleator.experiment.identity import decisive_options, environment, options_of
from aleator.experiment.locks import FolderLock
from aleator.experiment.options import RunOptions

_log = logging.getLogger("aleator.experiment")

Arms = Mapping[str, Sequence[Mapping[str, Any]]]


def advise(
    recipe: Any,
    *,
    name: str,
    arms: Arms,
    out: Path,
    minutes: float | None = 60.0,
    alpha: float = 0.05,
    options: RunOptions | None = None,
    probe: Work | None = None,
    workers: int | None = None,
    ray: str | None = None,
    command: list[str] | None = None,
) -> dict[str, Any]:
    """Find out what pays on a task, or go on finding out, and return the content of ``advice.json``.

    Args:
        recipe: with its options; they are the baseline before it is tuned. It has an option ``steps``.
        name: what `registry.resolve` finds the recipe's class under.
        arms: for each method the changes of the options that are worth a trial, its paper's first.
        out: the folder. One with an advice on the same recipe is gone on with: a look that is not finished is finished;
            after it a further one begins, of ``minutes``.
        minutes: of the look; None begins no further one. A look that is to be finished has those it was begun with.
        alpha: probability that any claim of all looks is false: the k-th has alpha/2^k.
        options: of every run; its seed is that of the trials, and those of the confirming runs are fresh.
        probe: work on a job that returns ``{"largest_stable_lr": …, "noise_scale": …}`` of its task, or None.
        workers: runs at the same time. Default: as many as the usable cores hold with ``options.threads`` each.
        ray: address of a Ray cluster, or ``"local"``.
        command: the command line, for the record.

    Returns:
        The content of ``advice.json``, see docs/advise.md. ``"answer"`` holds its sentences.

    Raises:
        ValueError: for options that cannot work, other minutes than those of a look that is not finished, or a folder
            that holds something else or that another process writes.
        RuntimeError: if the task breaks while it is measured, or every trial of the baseline fails.
        Interrupted: on SIGINT or SIGTERM, after the running runs have saved their state.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ValueError("advice starts processes of its own and must not be started by torchrun or the like")
    _check(recipe, name, minutes, alpha)
    options, out, began = options or RunOptions(), Path(out), time.monotonic()
    _check_folder(out, name)
    with contextlib.closing(FolderLock(out)):
        clear_left_overs(out, [FILE, "advice.py"])
        document = _document(recipe, name, out, alpha, options, command or [])
        with contextlib.closing(make_crew(workers, ray, options.threads, out, modules_of(recipe))) as crew:
            if minutes is not None and document["looks"] and not document["looks"][-1]["done"]:
                _check_minutes(document["looks"][-1]["minutes"], minutes, out)
            elif minutes is not None:
                document["looks"].append({"minutes": minutes, "spent": 0.0, "seconds": {}, "done": False})
            session = Session(recipe, name, out, options, crew, document, command or [])
            if document["looks"]:
                _look(session, arms, probe)
            conclude(session)
        document["seconds"] = document.get("seconds", 0.0) + time.monotonic() - began
        session.save()
        write_script(session)
    return read_json(out / FILE)


def _look(session: Session, arms: Arms, probe: Work | None) -> None:
    if session.look["done"]:
        return
    session.save()
    try:
        applying = measure(session, arms_of(arms), probe)
        for line in affordable(session.document, session.look["minutes"], session.crew.slots):
            _log.info("%s", line)
        chosen = choose(session, applying)
        confirm(session, chosen, best_pair(session, chosen))
    except ValueError:
        if "task" not in session.document:  # bad input: nothing began, and the folder is as good as new
            (session.out / FILE).unlink(missing_ok=True)
            shutil.rmtree(session.out / "measuring", ignore_errors=True)
        raise
    finally:
        if (session.out / FILE).exists():
            session.save()


def dry_run(
    recipe: Any,
    *,
    name: str,
    arms: Arms,
    minutes: float,
    options: RunOptions | None = None,
    workers: int | None = None,
    ray: str | None = None,
) -> list[str]:
    """Measure the task and say in a few lines what a time affords. Nothing is kept.

    Raises:
        ValueError: for options that cannot work.
        RuntimeError: if the task breaks while it is measured.
    """
    import tempfile

    _check(recipe, name, minutes, 0.05)
    options = options or RunOptions()
    with tempfile.TemporaryDirectory(prefix="aleator-advise-") as folder:
        document = _document(recipe, name, Path(folder), 0.05, options, [])
        document["looks"].append({"minutes": minutes, "spent": 0.0, "seconds": {}, "done": False})
        with contextlib.closing(make_crew(workers, ray, options.threads, Path(folder), modules_of(recipe))) as crew:
            session = Session(recipe, name, Path(folder), options, crew, document, [])
            measure(session, arms_of(arms), None)
            return affordable(document, minutes, crew.slots)


def _check(recipe: Any, name: str, minutes: float | None, alpha: float) -> None:
    if not hasattr(recipe, "steps"):
        raise ValueError(f"recipe {name} cannot be advised on: it has no option steps, which equal time is turned into")
    if minutes is not None and not (0 < minutes < math.inf):
        raise ValueError(f"minutes must be positive and finite, got {minutes}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")


def _check_folder(out: Path, name: str) -> None:
    if out.exists() and not out.is_dir():
        raise ValueError(f"{out} is a file; choose a folder with --out")
    for file, what in (("config.json", "a single run"), ("comparison.json", "a comparison")):
        if (out / file).exists():
            raise ValueError(f"{out} holds {what}; choose another folder for advice with --out")
    if (out / FILE).exists():
        other = read_json(out / FILE).get("recipe")
        if isinstance(other, str) and registry.short(other) != registry.short(name):
            raise ValueError(f"{out} holds advice on recipe {other!r}, not on {name!r}; choose another with --out")


def _check_minutes(begun: float, minutes: float, out: Path) -> None:
    # What was planned for the one time cannot be carried out in another.
    if minutes != begun:
        raise ValueError(
            f"{out} holds a look of {begun:g} minutes that is not finished; finish it without minutes, "
            f"or with {begun:g}, before another one of {minutes:g} begins"
        )


def _document(
    recipe: Any, name: str, out: Path, alpha: float, options: RunOptions, command: list[str]
) -> dict[str, Any]:
    identity = {"options": decisive_options(recipe), "run": options_of(options), "source": registry.source_sha256(name)}
    if (out / FILE).exists():
        document = read_json(out / FILE)
        for what, value in {**identity, "alpha": alpha}.items():
            if document.get(what) != _plain(value):
                raise ValueError(f"{out} holds advice with other {what}; choose another folder with --out")
        return document
    return {
        "recipe": name,
        "command": command,
        "alpha": alpha,
        **identity,
        "environment": environment(),
        "looks": [],
        "rungs": [],
        "confirmed": {},
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _plain(value: Any) -> Any:
    import json

    return json.loads(json.dumps(value))
