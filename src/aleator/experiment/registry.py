"""Recipes by name: entry points of the group ``aleator.recipes``, or a class in a user's file.

The built-in recipes are entry points of this package, so that a recipe of another package is found in the same way. A
user's own file is named ``path/to/mine.py:MyRecipe``. Names are looked up without importing anything; a recipe is
imported when it is resolved.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Iterable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, cast

from aleator.experiment.own_lines import MODULE, own_line

GROUP = "aleator.recipes"


@functools.cache
def names() -> dict[str, str]:
    """Return the registered recipes: name to ``"module:Class"``."""
    return {entry.name: entry.value for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name)}


def did_you_mean(word: str, accepted: Iterable[str]) -> str:
    """Return ``"; did you mean 'x'?"`` for the accepted word closest to ``word``, or nothing when none is close."""
    close = difflib.get_close_matches(word, list(accepted), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def is_file(spec: str) -> bool:
    """Whether a recipe is named as a class in a file."""
    return ".py" in spec


def resolve(spec: str) -> type[Any]:
    """Return the recipe class of a registered name or of ``path/to/file.py:Class``.

    Raises:
        ValueError: if there is no such name, file or class, or the file cannot be imported.
    """
    if is_file(spec):
        path, class_name = _split(spec)
        return _recipe_class(_import_file(path), class_name, spec)
    known = names()
    if spec not in known:
        accepted = ", ".join(known) or "none are installed"
        hint = did_you_mean(spec, known)
        raise ValueError(f"unknown recipe {spec!r}{hint} (recipes: {accepted}; or path/to/file.py:Class)")
    module, class_name = known[spec].split(":")
    return _recipe_class(importlib.import_module(module), class_name, spec)


def source_sha256(spec: str) -> str | None:
    """Return the SHA-256 of the file of a ``path:Class`` recipe, and None for a registered one."""
    return hashlib.sha256(_split(spec)[0].read_bytes()).hexdigest() if is_file(spec) else None


def absolute(spec: str) -> str:
    """Return the spec with its path made absolute, so that it is found from any working directory."""
    if not is_file(spec):
        return spec
    path, class_name = _split(spec)
    return f"{path.resolve()}:{class_name}"


def short(spec: str) -> str:
    """Return a registered name as it is, and of a class in a file its name alone: files may be moved."""
    return spec.rpartition(":")[2] if is_file(spec) else spec


@functools.cache
def distribution(spec: str) -> str | None:
    """Return name and version of the package that registered a recipe; None for a recipe in a file."""
    for entry in entry_points(group=GROUP, name=spec):
        if entry.dist is not None:
            return f"{entry.dist.name} {entry.dist.version}"
    return None


def describe(spec: str) -> str:
    """Return the first line of a recipe's docstring."""
    return (resolve(spec).__doc__ or "").strip().split("\n")[0]


def _split(spec: str) -> tuple[Path, str]:
    path, separator, class_name = spec.rpartition(":")
    if not separator or not path.endswith(".py"):
        raise ValueError(f"a recipe in a file is named path/to/file.py:Class, got {spec!r}")
    if not Path(path).is_file():
        raise ValueError(f"there is no recipe file {path!r}")
    return Path(path), class_name


def _import_file(path: Path) -> Any:
    # The module is named after the file's own place: two files of one name in two folders are two modules.
    path = path.resolve()
    name = f"{MODULE}{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    module_spec = importlib.util.spec_from_file_location(name, path)
    if module_spec is None or module_spec.loader is None:
        raise ValueError(f"{path} cannot be imported as a Python file")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    # A user's file may import its neighbours, as it could when run as a script.
    sys.path.insert(0, str(path.parent))
    try:
        module_spec.loader.exec_module(module)
    except Exception as error:
        place = own_line(error) or path
        del sys.modules[name]
        raise ValueError(f"{place} cannot be imported: {type(error).__name__}: {error}") from error
    finally:
        sys.path.remove(str(path.parent))
    return module


def _recipe_class(module: Any, class_name: str, spec: str) -> type[Any]:
    found = getattr(module, class_name, None)
    if found is None:
        classes = [name for name, value in vars(module).items() if _is_recipe(value)]
        hint = did_you_mean(class_name, classes)
        place, accepted = spec.rpartition(":")[0], ", ".join(classes) or "none"
        raise ValueError(f"there is no class {class_name!r} in {place!r}{hint} (recipes there: {accepted})")
    if not (_is_recipe(found) and dataclasses.is_dataclass(found)):
        raise ValueError(f"{spec} is not a recipe: it must be a dataclass with a method task(streams, accelerator)")
    return cast("type[Any]", found)


def _is_recipe(value: Any) -> bool:
    return isinstance(value, type) and callable(getattr(value, "task", None))
