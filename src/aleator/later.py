"""Names of a package that are imported when they are first asked for.

Importing torch takes a second, which nobody should wait for who asks for help or lists data sets. A package that has
names with and without such modules imports the light ones and writes, for the others,

    __getattr__ = later(__name__, {"Name": "module"})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def later(package: str, modules: Mapping[str, str]) -> Callable[[str], Any]:
    """Return the ``__getattr__`` of a package.

    Args:
        package: its name.
        modules: by public name, the module of the package that defines it.
    """

    def __getattr__(name: str) -> Any:
        if name in modules:
            return getattr(import_module(f"{package}.{modules[name]}"), name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return __getattr__


def named(spec: str) -> Any:
    """Return what ``"module:name"`` names, and import the module for it."""
    module, _, name = spec.partition(":")
    return getattr(import_module(module), name)
