"""The run that is asked for, and whether a folder may hold it."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aleator.experiment import record, registry
from aleator.experiment.files import UnusableFolder, finite
from aleator.experiment.identity import decisive_options, identity, options_of
from aleator.experiment.options import RunOptions


@dataclass(frozen=True)
class AskedRun:
    """A run as it was asked for.

    Attributes:
        recipe: the recipe with its options.
        out: the run's folder.
        options: how to run.
        name: the recipe's name as it was given.
        spec: the same with an absolute path.
        resume: whether the folder should hold the run already.
        size: the training size that a comparison set.
        command: for the record.
    """

    recipe: Any
    out: Path
    options: RunOptions
    name: str
    spec: str
    resume: bool
    size: int | None
    command: list[str]

    @functools.cached_property
    def identity(self) -> str:
        """See `aleator.experiment.identity`."""
        return identity(self.spec, self.recipe, self.options, self.size)

    def holds_it_whole(self, result: dict[str, Any]) -> bool:
        """Whether the folder holds this run with all that it writes, and nothing that it would remove."""
        self.check_folder()
        superfluous = self.options.keep_checkpoints == 0 and (self.out / "checkpoints").exists()
        return record.is_whole(self.out, result) and not superfluous

    def check_folder(self) -> None:
        """Check that the folder may hold this run.

        Raises:
            ValueError: if it holds something else, an option of the run in it is another, or there is none to resume.
            UnusableFolder: if the run in it is another for a reason that no option has.
        """
        config_path = self.out / "config.json"
        if not config_path.exists():
            if self.resume:
                raise ValueError(f"there is no run to resume in {self.out}; start one without --resume")
            if self.out.exists() and not record.holds_nothing(self.out):
                raise ValueError(f"the folder {self.out} is not empty and holds no run; choose another with --out")
            return
        config = record.read_config(self.out)
        here, asked = registry.short(config["recipe"]), registry.short(self.spec)
        if here != asked:
            raise ValueError(f"{self.out} holds a run of recipe {here!r}, not of {asked!r}")
        if not self.resume:
            raise ValueError(f"{self.out} already holds a run; add --resume to continue it or choose another --out")
        if config["threads"] != self.options.threads:
            raise ValueError(
                f"threads must be {config['threads']} as in the run to resume, got {self.options.threads}: "
                f"another number changes the last bits"
            )
        decisive = {name: config["loop"].get(name) for name in ("seed", "evaluate_every", "non_finite")}
        given = finite(record.redacted(options_of(self.recipe) | options_of(self.options)))
        free = options_of(self.recipe).keys() - decisive_options(self.recipe).keys()
        for name, value in (config["options"] | decisive).items():
            if name not in free and given.get(name) != value:
                raise ValueError(f"{name} must be {value} as in the run to resume, got {given.get(name)}")
        if config["identity"] != self.identity:
            raise UnusableFolder(
                f"the recipe's source or the library has changed since the run in {self.out}, "
                f"or its config.json was changed by hand"
            )
