"""``aleator language fairness MODEL FILES…``: what the same content costs a saved model in each language."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from aleator.commands import flags
from aleator.commands.table import write_lines, write_table


@dataclass(frozen=True)
class Fairness:
    """Count the segments that a model makes of parallel text, language by language."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """The folder of a saved model."""
    files: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="LANG[:SCRIPT]=FILE")]
    """Parallel text files, one sentence in a line; SCRIPT where the model does not know the language by its name."""
    anchor: str | None = None
    """The language that ratios are relative to (the first by default)."""
    window: int = 512
    """Lines are cut after so many bytes."""
    batch_size: int = 16
    """Windows that the model reads at a time."""
    speed: bool = False
    """Measure bytes per second too, which reads everything twice."""
    seed: int = 0
    """Of the boundaries, where the model samples them."""


VERBS: dict[str, type[Any]] = {"fairness": Fairness}


def options() -> Any:
    """Return the type of the command's options, for completion."""
    return flags.choice(_summaries(), lambda verb: flags.together({verb: VERBS[verb]}))


def main(args: Sequence[str]) -> int:
    """Carry out the verb and return its exit code."""
    if not args:
        raise ValueError(f"a verb is missing, write aleator language VERB (verbs: {', '.join(VERBS)})")
    if args[0] in ("-h", "--help"):
        flags.write_help(_summaries(), prog="aleator language", description="Language models on bytes.")
        return 0
    if args[0] not in VERBS:
        raise ValueError(flags.unknown("verb", args[0], VERBS))
    (chosen,) = flags.parse({args[0]: VERBS[args[0]]}, args[1:], prog=f"aleator language {args[0]}")
    return fairness(chosen)


def fairness(chosen: Fairness) -> int:
    """Print the report as a table.

    Raises:
        ValueError: if a file is not given as LANG=FILE, a language is given twice, or as of `fairness_report`.
        FileNotFoundError: if the model or a file does not exist.
    """
    names = _named(chosen.files)
    for name in ("window", "batch_size"):
        if getattr(chosen, name) < 1:
            raise ValueError(f"{name.replace('_', '-')} must be at least 1, got {getattr(chosen, name)}")
    from aleator.language import fairness_report, load_model
    from aleator.language.rates import read_lines
    from aleator.random import Streams

    model = load_model(chosen.model)
    report = fairness_report(
        model,
        {language: read_lines(path) for language, (_, path) in names.items()},
        anchor=chosen.anchor or next(iter(names)),
        scripts={language: script for language, (script, _) in names.items()},
        window=chosen.window,
        batch_size=chosen.batch_size,
        speed=chosen.speed,
        generator=Streams(chosen.seed).generator("fairness"),
    )
    write_table(f"{chosen.model}, relative to {report.anchor}", report.HEADINGS, report.rows())
    write_lines(report.summary())
    return 0


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
        found[language] = (script or language, Path(path))
    return found


def _summaries() -> dict[str, str]:
    return {verb: str(kind.__doc__) for verb, kind in VERBS.items()}
