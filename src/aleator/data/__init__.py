"""Which examples a step sees, how many, and where they come from.

`RepeatedRandomSampler` draws a new random subset in every round, `BudgetPlan` counts its steps; ``load`` knows data
sets by name and `InMemoryLoader` hands out batches of them.
"""

from typing import TYPE_CHECKING, Any

from aleator.data.catalog import CATALOG, DatasetInfo, RemoteFile, lookup
from aleator.data.files import FileStatus, fetch, verify

if TYPE_CHECKING:
    from aleator.data.budget import BudgetPlan
    from aleator.data.images import Examples, LabelledImages
    from aleator.data.in_memory import InMemoryLoader
    from aleator.data.repeated_random import RepeatedRandomSampler
    from aleator.data.texts import TextCorpus, TextDomain, load, read_texts

__all__ = [
    "CATALOG",
    "BudgetPlan",
    "DatasetInfo",
    "Examples",
    "FileStatus",
    "InMemoryLoader",
    "LabelledImages",
    "RemoteFile",
    "RepeatedRandomSampler",
    "TextCorpus",
    "TextDomain",
    "fetch",
    "load",
    "lookup",
    "read_texts",
    "verify",
]

# What needs torch is imported when it is first asked for: data sets can be listed and fetched without it.
_LATER = {
    "BudgetPlan": "budget",
    "Examples": "images",
    "InMemoryLoader": "in_memory",
    "LabelledImages": "images",
    "RepeatedRandomSampler": "repeated_random",
    "TextCorpus": "texts",
    "TextDomain": "texts",
    "load": "texts",
    "read_texts": "texts",
}


def __getattr__(name: str) -> Any:
    """Import a name that needs torch."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"aleator.data.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
