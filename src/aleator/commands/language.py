"""``aleator language fairness MODEL FILES…``: what the same content costs a saved model in each language."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from aleator.commands import verbs
from aleator.commands.table import write_lines, write_table

if TYPE_CHECKING:
    from aleator.language import LanguageModel


@dataclass(frozen=True)
class Fairness:
    """Count the segments that a model makes of parallel text, language by language."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The folder of a saved model, or of a finished run of the recipe language."""
    files: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="LANG[:SCRIPT]=FILE")]
    """Parallel text files, one sentence in a line; SCRIPT where the model does not know the language by its name."""
    anchor: str | None = None
    """The language that ratios are relative to (the first by default)."""
    window: int | None = None
    """Lines are cut after this many bytes (by default 512, for a run the length of its windows)."""
    batch_size: int = 16
    """Windows that the model reads at a time."""
    speed: bool = False
    """Measure bytes per second too, which reads everything twice."""
    seed: int = 0
    """Of the boundaries, where the model samples them."""


VERBS: dict[str, type[Any]] = {"fairness": Fairness}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return verbs.options(VERBS)


def main(args: Sequence[str]) -> int:
    """Carry out the verb and return its exit code."""
    asked = verbs.chosen("language", VERBS, args, "Language models on bytes.")
    if asked is None:
        return 0
    return fairness(asked[1])


def fairness(chosen: Fairness) -> int:
    """Print the report as a table.

    Raises:
        ValueError: if a file is not given as LANG=FILE, a language is given twice, or as of `fairness_report`.
        FileNotFoundError: if the model or a file does not exist.
    """
    names = _named(chosen.files)
    for name in ("window", "batch_size"):
        if (value := getattr(chosen, name)) is not None and value < 1:
            raise ValueError(f"{name.replace('_', '-')} must be at least 1, got {value}")
    from aleator.language import fairness_report
    from aleator.language.rates import read_lines
    from aleator.random import Streams

    texts = {language: read_lines(path) for language, (_, path) in names.items()}
    model, window, label = _loaded(chosen.model)
    report = fairness_report(
        model,
        texts,
        anchor=chosen.anchor or next(iter(names)),
        scripts={language: script or label(language, texts[language]) for language, (script, _) in names.items()},
        window=chosen.window or window,
        batch_size=chosen.batch_size,
        speed=chosen.speed,
        generator=Streams(chosen.seed).generator("fairness"),
    )
    write_table(f"{chosen.model}, relative to {report.anchor}", report.HEADINGS, report.rows())
    write_lines(report.summary())
    return 0


def _loaded(folder: Path) -> tuple[LanguageModel, int, Callable[[str, Sequence[str]], str]]:
    """Return the model, the window that suits it, and what it calls the script of a language with some lines."""
    from aleator.experiment.load import load_run
    from aleator.language import load_model

    if not (folder / "metrics.jsonl").is_file():  # which every run has, and no saved model
        return load_model(folder), 512, lambda language, _: language
    run = load_run(folder)
    task: Any = run.task
    if not hasattr(task, "language_model"):
        raise ValueError(f"MODEL must be a run of the recipe language, got one of {run.config['recipe']} in {folder}")
    # A window of the run is a byte that is given and the bytes of the context, which are predicted.
    return task.language_model(), run.recipe.context + 1, task.label


def _named(files: Sequence[str]) -> dict[str, tuple[str, Path]]:
    """Return script and file of each language."""
    found: dict[str, tuple[str, Path]] = {}
    if not files:
        raise ValueError("files must be given as LANG=FILE or LANG:SCRIPT=FILE, got none")
    for given in files:
        label, separator, path = given.partition("=")
        language, _, script = label.partition(":")
        if not (separator and language and path):
            raise ValueError(f"files must be given as LANG=FILE or LANG:SCRIPT=FILE, got {given!r}")
        if language in found:
            raise ValueError(f"each language must have one file, got {language!r} twice")
        found[language] = (script, Path(path))
    return found
