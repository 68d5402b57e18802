"""When two runs are the same run.

The identity of a run is the SHA-256 of everything that decides its numbers: the recipe and all of its options, the
seed, the training size, the number of threads, the library's version, and the source of a recipe that lives in a user's
file. A finished run of the same identity is never run twice.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
import typing
from pathlib import Path
from typing import Any

import aleator
from aleator.experiment import registry
from aleator.experiment.options import RunOptions


def options_of(recipe: Any) -> dict[str, Any]:
    """Return the options of a recipe as values that JSON has words for; tuples become lists, paths strings."""
    return {field.name: _plain(getattr(recipe, field.name)) for field in dataclasses.fields(recipe)}


def recipe_from(spec: str, options: dict[str, Any]) -> Any:
    """Rebuild a recipe from its name and the options `options_of` returned. Lists become tuples again.

    Raises:
        ValueError: if the recipe is unknown or has no such option.
    """
    cls = registry.resolve(spec)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := options.keys() - fields.keys():
        raise ValueError(f"recipe {spec!r} has no option {', '.join(sorted(unknown))} (options: {', '.join(fields)})")
    types = typing.get_type_hints(cls)
    return cls(**{name: _restored(value, types[name]) for name, value in options.items()})


def identity(spec: str, recipe: Any, options: RunOptions, size: int | None = None) -> str:
    """Return the identity of a run as 64 hexadecimal digits.

    A recipe in a file counts by its class and its source, not by its place: a moved folder keeps its runs.
    """
    source = registry.source_sha256(spec)
    decisive = {
        "recipe": spec.rpartition(":")[2] if source else spec,
        "source": source,
        "options": options_of(recipe),
        "seed": options.seed,
        "threads": options.threads,
        "evaluate_every": options.evaluate_every,
        "non_finite": options.non_finite,
        "size": size,
        "version": aleator.__version__,
    }
    return hashlib.sha256(json.dumps(decisive, sort_keys=True).encode()).hexdigest()


def environment() -> dict[str, Any]:
    """Return the versions and the machine that a result was made with."""
    import os

    import accelerate
    import numpy as np
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "versions": {
            "aleator": aleator.__version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "accelerate": accelerate.__version__,
        },
        "machine": {
            "platform": platform.platform(),
            "processor": _processor(),
            "cores": os.cpu_count(),
            "device": device,
        },
    }


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return str(value) if isinstance(value, Path) else value


def _restored(value: Any, expected: Any) -> Any:
    """Return a value as the option's type has it: JSON knows neither tuples nor paths."""
    accepted = {expected, typing.get_origin(expected), *typing.get_args(expected)}
    if isinstance(value, list) and list not in accepted:
        inner = typing.get_args(expected)
        return tuple(_restored(item, inner[0] if inner else None) for item in value)
    return Path(value) if isinstance(value, str) and Path in accepted and str not in accepted else value
