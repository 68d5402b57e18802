"""The record of a run in its folder: ``config.json`` and ``result.json``, checked, and the recipe built from them.

A run is resumed from its folder alone. Paths in a recipe's options are as they were given, so a recipe is built where
it was first built: in the recorded working directory, as long as that is there. The recipe's own file is recorded by
its absolute path and as it was given; the second is tried where the first is gone.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from aleator.experiment import registry
from aleator.experiment.exhibit import holds_exhibits
from aleator.experiment.files import DamagedFile, UnusableFolder, is_left_over, read_json
from aleator.experiment.identity import recipe_from
from aleator.experiment.locks import NAME
from aleator.experiment.options import RunOptions

_log = logging.getLogger("aleator.experiment")

_FIELDS = {
    "recipe": str,
    "options": dict,
    "seed": int,
    "threads": int,
    "loop": dict,
    "identity": str,
}
FILES = (
    "config.json",
    "metrics.jsonl",
    "test_examples.npz",
    "result.json",
    "exhibits.json",
    "*.safetensors",
    "*.png",
    "*.gif",
)
"""What a run writes into its folder, besides checkpoints. The task names the files of its models and pictures."""

_PASSWORD = re.compile(r"(?P<before>[A-Za-z][A-Za-z0-9+.-]*://[^\s/:@]*):[^\s/@]*@")
HIDDEN = "***"


def read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a run's ``config.json``.

    Raises:
        DamagedFile: if it is not what a run writes; the line names the file.
    """
    path = folder / "config.json"
    config = read_json(path)
    wrong = [name for name, kind in _FIELDS.items() if type(config.get(name)) is not kind]
    if wrong:
        raise DamagedFile(f"{path} is not the config of a run: {', '.join(wrong)} is missing or of another type")
    return config


def read_result(folder: Path) -> dict[str, Any] | None:
    """Return the content of a run's ``result.json``, or None where there is none or a damaged one, which is logged."""
    path = folder / "result.json"
    if not path.is_file():
        return None
    try:
        result = read_json(path)
    except DamagedFile as error:
        _log.warning("%s", error)
        return None
    kinds = {"headline": dict, "validation": dict, "test": dict, "seconds": dict, "steps": int, "unit": str}
    found, kinds = {"models": [], **result}, {**kinds, "models": list}
    if wrong := [name for name, kind in kinds.items() if type(found.get(name)) is not kind]:
        _log.warning("%s is not the result of a run: %s is missing or of another type", path, ", ".join(wrong))
        return None
    return result


def is_whole(folder: Path, result: dict[str, Any]) -> bool:
    """Whether a run that has a result has everything else, too."""
    models = all((folder / f"{name}.safetensors").is_file() for name in result.get("models", ()))
    examples = not result.get("test_examples") or (folder / "test_examples.npz").is_file()
    return models and examples and (not result.get("exhibits") or holds_exhibits(folder))


def holds_nothing(folder: Path) -> bool:
    """Whether a folder holds nothing but a log, a lock, and what a killed process left of a file it was writing."""
    return all(path.name in ("run.log", NAME) or is_left_over(path.name) for path in folder.iterdir())


def recipe_spec(config: dict[str, Any], folder: Path) -> str:
    """Return where the class of a run's recipe is now.

    Raises:
        ValueError: if its file is neither where it was nor at the path that was given.
    """
    recorded = [config["recipe"], config.get("recipe_as_given") or config["recipe"]]
    for spec in recorded:
        if not registry.is_file(spec) or Path(spec.rpartition(":")[0]).is_file():
            return str(spec)
    path, _, name = recorded[0].rpartition(":")
    raise ValueError(f"the recipe of {folder} was in {path}, which is not there; name it: path/to/file.py:{name}")


def recorded(spec: str, config: dict[str, Any], folder: Path) -> tuple[Any, RunOptions]:
    """Return the recipe and the options of a run as its ``config.json`` has them.

    Raises:
        ValueError: if the recipe is unknown.
        DamagedFile: if the options do not fit the recipe.
    """
    loop = {field.name: config["loop"][field.name] for field in fields(RunOptions) if field.name in config["loop"]}
    try:
        options = RunOptions(**{**loop, "trackers": tuple(loop.get("trackers", ()))})
        registry.resolve(spec)
        return recipe_from(spec, config["options"]), options
    except TypeError as error:
        raise DamagedFile(f"{folder / 'config.json'} does not hold the options of a run: {error}") from None


@contextlib.contextmanager
def where_it_was(config: dict[str, Any], folder: Path) -> Iterator[Path]:
    """Work in the directory that a run or comparison was started in, if it is still there; gives its folder's path."""
    place = config.get("working_directory")
    if isinstance(place, str) and Path(place).is_dir() and not os.path.samefile(place, "."):
        folder = folder.absolute()
        with contextlib.chdir(place):
            yield folder
    else:
        yield folder


def redacted(value: Any) -> Any:
    """Return a value without the passwords of the URLs in it, at any depth: what is recorded may be passed on."""
    if isinstance(value, str):
        return _PASSWORD.sub(rf"\g<before>:{HIDDEN}@", value)
    if isinstance(value, dict):
        return {key: redacted(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redacted(item) for item in value]
    return value


def check_nothing_hidden(options: dict[str, Any], folder: Path) -> None:
    """Refuse to go on with a password that was not recorded.

    Raises:
        UnusableFolder: naming the option that has to be given again.
    """
    for name, value in options.items():
        if f":{HIDDEN}@" in str(value):
            raise UnusableFolder(f"{name} must be given again: a password is not kept in {folder}")
