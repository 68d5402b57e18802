"""A finished run, back in your hands: ``load_run(folder).model``."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from aleator.experiment import registry
from aleator.experiment.accelerators import make_accelerator
from aleator.experiment.files import DamagedFile, UnusableFolder, described
from aleator.experiment.model_state import models_of, unwrapped
from aleator.experiment.protocol import Task
from aleator.experiment.record import read_config, read_result, recipe_spec, recorded, where_it_was
from aleator.random import Streams


@dataclass(frozen=True)
class LoadedRun:
    """A run read back from its folder.

    Attributes:
        config: the content of ``config.json``.
        result: the content of ``result.json``.
        recipe: the recipe with the options of the run.
        task: the task, built anew with the run's seed; ``task.evaluate("validation")`` works.
        model: the trained model on this machine's device, in evaluation mode.
    """

    config: dict[str, Any]
    result: dict[str, Any]
    recipe: Any
    task: Task
    model: nn.Module


def load_run(folder: Path | str, recipe: str | None = None) -> LoadedRun:
    """Return the trained model of a finished run, its options and its results.

    The weights come from ``model.safetensors``, which other programs can read as well; those of further models that the
    task saved, such as a running mean of the weights that it evaluates, are put back into the task.

    Args:
        folder: of a run.
        recipe: where the recipe's class is now, ``path/to/file.py:Class``, if the file was moved since.

    Warns:
        UserWarning: if the recipe's file is not the one that the run was made with.

    Raises:
        FileNotFoundError: if there is no run, it is not finished, or the file of a model is gone.
        ValueError: if a file is damaged, or the run's task has no model.
    """
    folder = Path(folder)
    for name in ("config.json", "result.json"):
        if not (folder / name).is_file():
            raise FileNotFoundError(f"there is no finished run in {folder}: it has no {name}")
    config = read_config(folder)
    result = read_result(folder)
    if result is None:
        raise UnusableFolder(f"{folder / 'result.json'} is damaged; resume the run to make it again")
    spec = registry.absolute(recipe or recipe_spec(config, folder))
    if registry.source_sha256(spec) != config.get("source_sha256"):
        warnings.warn(
            f"{spec} has changed since the run in {folder} was made: the model may see other inputs now", stacklevel=2
        )
    with where_it_was(config, folder):  # relative paths of data are found from there
        built = recorded(spec, config, folder)[0]
        accelerator = make_accelerator()
        streams = Streams(config["seed"], accelerator.device)
        with streams.scope("init"):
            task: Task = built.task(streams, accelerator)
    models = models_of(task)
    if "model" not in models:
        raise ValueError(f"the task of recipe {config['recipe']!r} has no attribute model to load")
    for name, model in models.items():
        _read_weights(folder / f"{name}.safetensors", unwrapped(model))
    return LoadedRun(config, result, built, task, unwrapped(models["model"]).eval())


def _read_weights(path: Path, model: nn.Module) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; resume the run to make it again")
    try:
        model.load_state_dict(load_file(path))
    except (SafetensorError, RuntimeError) as error:
        raise DamagedFile(f"{path} does not hold the weights of the run's model: {described(error)}") from None
