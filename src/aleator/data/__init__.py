"""Which examples a step sees, how many, and where they come from.

`RepeatedRandomSampler` draws a new random subset in every round, `BudgetPlan` counts its steps; ``load`` knows images,
texts and treebanks by name, `read_texts` takes a user's own files, and `InMemoryLoader` hands out batches.
"""

from typing import TYPE_CHECKING, Any

from aleator.data.catalog import CATALOG, lookup
from aleator.data.entries import DatasetInfo, ImageFacts, RemoteFile
from aleator.data.files import FileStatus, fetch, verify

if TYPE_CHECKING:
    from aleator.data.budget import BudgetPlan
    from aleator.data.datasets import load
    from aleator.data.images import Examples, LabelledImages
    from aleator.data.in_memory import InMemoryLoader
    from aleator.data.repeated_random import RepeatedRandomSampler
    from aleator.data.texts import ParallelCorpus, TextCorpus, TextDomain, read_texts
    from aleator.data.treebanks import TaggedSentence, Treebank

__all__ = [
    "CATALOG",
    "BudgetPlan",
    "DatasetInfo",
    "Examples",
    "FileStatus",
    "ImageFacts",
    "InMemoryLoader",
    "LabelledImages",
    "ParallelCorpus",
    "RemoteFile",
    "RepeatedRandomSampler",
    "TaggedSentence",
    "TextCorpus",
    "TextDomain",
    "Treebank",
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
    "ParallelCorpus": "texts",
    "RepeatedRandomSampler": "repeated_random",
    "TaggedSentence": "treebanks",
    "TextCorpus": "texts",
    "TextDomain": "texts",
    "Treebank": "treebanks",
    "load": "datasets",
    "read_texts": "texts",
}


def __getattr__(name: str) -> Any:
    """Import a name that needs torch."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"aleator.data.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
