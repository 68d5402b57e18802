"""The identity of a run: two runs that agree in it are the same run.

The identity of a run is the SHA-256 of everything that decides its numbers: the recipe and its options, the
seed, the training size, the number of threads, the library's version, and the source of a recipe that lives in a user's
file. A finished run of the same identity is never run twice.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
import json
import platform
import types
import typing
from pathlib import Path
from typing import Any

from aleator.experiment import registry
from aleator.experiment.options import RunOptions
from aleator.version import library_version


def options_of(recipe: Any) -> dict[str, Any]:
    """Return the options of a recipe as values that JSON has words for.

    Tuples become lists, paths strings, members of an enumeration their names.

    Raises:
        ValueError: if an option holds anything else.
    """
    return {field.name: _plain(getattr(recipe, field.name), field.name) for field in dataclasses.fields(recipe)}


def decisive_options(recipe: Any) -> dict[str, Any]:
    """Return the options of a recipe that decide its numbers.

    The others, such as where a run meets others, say so: ``field(metadata={"decisive": False})``.
    """
    decisive = {field.name for field in dataclasses.fields(recipe) if field.metadata.get("decisive", True)}
    return {name: value for name, value in options_of(recipe).items() if name in decisive}


def recipe_from(spec: str, options: dict[str, Any]) -> Any:
    """Rebuild a recipe from its name and the options that `options_of` returned.

    Raises:
        ValueError: if the recipe is unknown or has no such option.
    """
    cls = registry.resolve(spec)
    fields = {field.name: field for field in dataclasses.fields(cls)}
    if unknown := options.keys() - fields.keys():
        raise ValueError(f"recipe {spec!r} has no option {', '.join(sorted(unknown))} (options: {', '.join(fields)})")
    hints = typing.get_type_hints(cls)
    try:
        return cls(**{name: _restored(value, hints[name]) for name, value in options.items()})
    except (TypeError, KeyError) as error:
        raise ValueError(f"the recorded options do not fit recipe {spec!r}: {error}") from None


def identity(spec: str, recipe: Any, options: RunOptions, size: int | None = None) -> str:
    """Return the identity of a run as 64 hexadecimal digits.

    A recipe in a file counts by its class and its source, not by its place: a moved folder keeps its runs.
    """
    source = registry.source_sha256(spec)
    decisive = {
        "recipe": registry.short(spec),
        "source": source,
        "package": registry.distribution(spec),
        "options": decisive_options(recipe),
        "seed": options.seed,
        "threads": options.threads,
        "evaluate_every": options.evaluate_every,
        "non_finite": options.non_finite,
        "size": size,
        "version": library_version(),
        **({} if options.test else {"test": False}),
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
            "aleator": library_version(),
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


def _plain(value: Any, option: str) -> Any:
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (list, tuple)):
        return [_plain(item, option) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item, option) for key, item in value.items()}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise ValueError(f"option {option} must be a number, text, path or collection of them, got {type(value).__name__}")


def _restored(value: Any, expected: Any) -> Any:
    """Return a value as the option's type has it: JSON knows neither tuples, nor paths, nor enumerations."""
    united = typing.get_origin(expected) in (typing.Union, types.UnionType)
    for kind in typing.get_args(expected) if united else (expected,):
        origin, inner = typing.get_origin(kind) or kind, typing.get_args(kind)
        if isinstance(value, list) and origin is list:
            return [_restored(item, inner[0] if inner else Any) for item in value]
        if isinstance(value, list) and origin is tuple:
            each = [inner[0] if inner else Any] * len(value) if len(inner) < 2 or inner[1] is ... else inner
            return tuple(_restored(item, of) for item, of in zip(value, each, strict=True))
        if isinstance(value, str) and origin is Path:
            return Path(value)
        if isinstance(value, str) and isinstance(origin, type) and issubclass(origin, enum.Enum):
            return origin[value]
    return value
