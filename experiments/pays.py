"""Which method pays: advice on six tasks, and the page that is made of it.

`python -m experiments advise NAME` carries out one, and keeps what it found in ``evidence/advice/NAME.json``; the page
``docs/which-method-pays.md`` has its tables from there. Over the tasks stands the probability of improvement: that on a
task drawn from these, a run with the method is better than one without, the seeds of each drawn anew (R. Agarwal et
al., "Deep reinforcement learning at the edge of the statistical precipice", NeurIPS 2021, section 4.3).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from aleator.experiment.advice.arms import BASELINE, OWN
from aleator.experiment.files import read_json, write_json
from aleator.experiment.protocol import Headline
from aleator.experiment.report import words
from aleator.random import Streams

ROOT = Path(__file__).parents[1]
FOUND = ROOT / "evidence" / "advice"
DRAWS = 4000


@dataclass(frozen=True)
class Asked:
    """A task that advice is asked on.

    Attributes:
        name: of the file.
        task: in words.
        words: of the command, behind ``aleator advise``.
    """

    name: str
    task: str
    words: tuple[str, ...]

    @property
    def command(self) -> str:
        """The command line."""
        return shlex.join(["aleator", "advise", *self.words])


TABLE = f"{ROOT / 'experiments' / 'recipes' / 'diabetes.py'}:Diabetes"

ASKED = (
    Asked("digits", "digits, a fully connected network", ("classify", "--minutes", "60")),
    Asked(
        "fashion-mnist",
        "Fashion-MNIST, 8 000 training images, two convolutions",
        ("classify", "--data", "fashion-mnist", "--model", "cnn", "--train-size", "8000", "--test-size", "2000",
         "--rounds", "5", "--minutes", "60"),
    ),
    Asked(
        "cifar10",
        "CIFAR-10, 4 000 training images, a small vision transformer",
        ("classify", "--data", "cifar10", "--model", "vit-tiny", "--train-size", "4000", "--test-size", "2000",
         "--optimizer", "adamw", "--rounds", "4", "--minutes", "60"),
    ),
    Asked("tinyshakespeare", "the bytes of tinyshakespeare, a small transformer", ("language", "--minutes", "60")),
    Asked(
        "languages",
        "the bytes of English, and of much less Spanish and Finnish, a small transformer",
        ("language", "--data", "ud-english-ewt", "udhr2", "--domains", "en", "spa", "fin",
         "--domain-bytes", "en=200000", "--minutes", "60"),
    ),
    Asked("table", "a regression table, one hidden layer", (TABLE, "--minutes", "60")),
)  # fmt: skip


def produce(name: str) -> None:
    """Ask for advice on a task and keep what was found; an interrupted call goes on where it was.

    Raises:
        ValueError: if there is no such task.
        RuntimeError: if the command fails.
    """
    known = {asked.name: asked for asked in ASKED}
    if name not in known:
        raise ValueError(f"task must be one of {', '.join(known)}, got {name!r}")
    out = ROOT / "out" / "evidence" / "advice" / name
    write_json(FOUND / f"{name}.json", kept(advised(out, known[name].words), out, known[name]))


def advised(out: Path, words: Sequence[str]) -> dict[str, Any]:
    """Ask for advice, or go on with one that is in the folder, and return its document.

    Raises:
        RuntimeError: if the command fails.
    """
    from aleator.cli import main

    again = ["--out", str(out), "--resume"] if (out / "advice.json").exists() else [*words, "--out", str(out)]
    if (code := main(["advise", *again])) != 0:
        raise RuntimeError(f"advice ended with exit code {code}; see {out}")
    document: dict[str, Any] = read_json(out / "advice.json")
    return document


def kept(document: dict[str, Any], out: Path, asked: Asked) -> dict[str, Any]:
    """Return what is kept of an advice: without its trials, with the test headline of every confirming run."""
    metric = document["task"]["headline"]["name"]
    values = {
        name: {
            str(read_json(out / folder / "config.json")["seed"]): read_json(out / folder / "result.json")["test"][
                metric
            ]
            for folder in told["folders"]
        }
        for name, told in document["described"].items()
    }
    arms = {name: {"status": entry["status"], "why": entry["why"]} for name, entry in document["arms"].items()}
    names = ("alpha", "task", "effects", "answer", "winner", "failed", "looks", "environment", "created", "seconds")
    return {"task_in_words": asked.task, "command": asked.command, "arms": arms, "values": values} | {
        name: document[name] for name in names
    }


def found() -> list[tuple[Asked, dict[str, Any] | None]]:
    """Return the tasks with what was found, None where it was not asked yet."""
    return [(asked, read_json(path) if (path := FOUND / f"{asked.name}.json").exists() else None) for asked in ASKED]


def effects_table() -> str:
    """Return methods × the tasks that were asked, with effects, and the probability of improvement over them."""
    documents = _documents()
    if not documents:
        return "Not run yet."
    head = ["method", *(f"{task}, {_unit(one)}" for task, one in documents.items()), "probability of improvement"]
    rows = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for method in _methods(documents):
        confirming = [one for one in documents.values() if method in one["values"]]
        signs = [1.0 if one["task"]["headline"]["direction"] == "max" else -1.0 for one in confirming]
        improvement = _improvement([one["values"] for one in confirming], signs, method)
        cells = [_cell(method, one) for one in documents.values()]
        rows.append(f"| {method} | {' | '.join(cells)} | {improvement} |")
    return "\n".join(rows)


def tasks_table() -> str:
    """Return what was asked, and each answer."""
    rows = ["| task | what it is | command | answer |", "|---|---|---|---|"]
    for asked, one in found():
        answer = " ".join(one["answer"]) if one is not None else "not run"
        rows.append(f"| {asked.name} | {asked.task} | `{portable(asked.command)}` | {answer} |")
    return "\n".join(rows)


def never_table() -> str:
    """Return the methods that are claimed to be better on no task, with what each task says of them."""
    documents = _documents()
    if not documents:
        return "Not run yet."
    rows = []
    for method in _methods(documents):
        tasks_of: dict[str, list[str]] = {}
        for task, one in documents.items():
            tasks_of.setdefault(_said(method, one), []).append(task)
        if "better" not in tasks_of:
            said = [f"{what} ({', '.join(tasks)})" for what, tasks in tasks_of.items()]
            rows.append(f"- {method}: {'; '.join(said)}.")
    return "\n".join(rows)


def _documents() -> dict[str, dict[str, Any]]:
    """Return what was found, by the name of the task."""
    return {asked.name: one for asked, one in found() if one is not None}


def _unit(one: dict[str, Any]) -> str:
    """Return what a task's effects are in."""
    metric = one["task"]["headline"]["name"]
    return words.difference_unit(metric).strip() or words.title(metric)


def _methods(documents: Mapping[str, dict[str, Any]]) -> list[str]:
    names = (name for one in documents.values() for name in one["arms"] if name not in (BASELINE, OWN))
    return list(dict.fromkeys(names))


def _effect(method: str, one: dict[str, Any]) -> dict[str, Any] | None:
    return next((effect for effect in one["effects"] if effect["arm"] == method), None)


def _said(method: str, one: dict[str, Any]) -> str:
    """Return what a task says of a method, in words: ``better`` and ``worse`` are claims."""
    if (effect := _effect(method, one)) is not None:
        return str(effect["claim"] or "no difference found")
    arm = one["arms"].get(method, {"status": "no arm", "why": ""})
    status = str(arm["status"])
    if status == "does not apply":
        return f"{status}: {arm['why']}"
    return {"chosen": "behind on validation data", "not tried": "not tried for lack of time"}.get(status, status)


def _cell(method: str, one: dict[str, Any]) -> str:
    if (effect := _effect(method, one)) is None:
        return _said(method, one).partition(":")[0]
    metric = Headline(**one["task"]["headline"]).name
    places = words.column_decimals(metric, ((each["gain"], each["interval"]) for each in one["effects"]))
    text = words.difference(metric, effect["gain"], places=places)
    interval = tuple(effect["interval"]) if effect["interval"] else None
    ends = f" [{words.difference_interval(metric, interval, places)}]" if interval else ""
    return f"**{text}**{ends}" if effect["claim"] else f"{text}{ends}"


def _improvement(tables: list[dict[str, dict[str, float]]], signs: list[float], method: str) -> str:
    """Return the probability that a run with the method is better than one without, with its 95 % interval."""
    if not tables:
        return "–"
    generator = Streams(0).numpy("pays", method)
    pairs = []
    for table, sign in zip(tables, signs, strict=True):
        seeds = sorted(table[method].keys() & table[BASELINE].keys())
        pairs.append(
            (sign * np.array([table[method][s] for s in seeds]), sign * np.array([table[BASELINE][s] for s in seeds]))
        )
    drawn = np.zeros(DRAWS)
    for ours, theirs in pairs:
        better = (ours[:, None] > theirs) + 0.5 * (ours[:, None] == theirs)
        a = generator.integers(len(ours), size=(DRAWS, len(ours)))
        b = generator.integers(len(theirs), size=(DRAWS, len(theirs)))
        drawn += better[a[:, :, None], b[:, None, :]].mean((1, 2)) / len(pairs)
    whole = np.mean([((a[:, None] > b) + 0.5 * (a[:, None] == b)).mean() for a, b in pairs])
    low, high = np.quantile(drawn, [0.025, 0.975])
    tasks = f"{len(pairs)} task{'s' * (len(pairs) > 1)}"
    return f"{100 * whole:.0f} % [{100 * low:.0f}, {100 * high:.0f}], {tasks}"


def portable(command: str) -> str:
    """Return a command as it is typed in the root of the project."""
    return command.replace(f"{ROOT}/", "")
