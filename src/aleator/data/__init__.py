"""Which examples a step sees, how many, and where they come from.

`RepeatedRandomSampler` draws a new random subset in every round, `BudgetPlan` counts its steps; `DomainMixture` says in
what proportion domains are shown and `MixtureSampler` draws from them. ``load`` knows images, texts, treebanks,
graphs and molecules by name, `read_texts` takes a user's own files, and `InMemoryLoader` hands out batches.
"""

from typing import TYPE_CHECKING

from aleator.data.catalog import CATALOG, lookup
from aleator.data.entries import DatasetInfo, ImageFacts, MoleculeFacts, RemoteFile
from aleator.data.files import FileStatus, fetch, verify
from aleator.later import later

if TYPE_CHECKING:
    from aleator.data.budget import BudgetPlan
    from aleator.data.datasets import load
    from aleator.data.graphs import Graph, GraphSet
    from aleator.data.images import Examples, LabelledImages
    from aleator.data.in_memory import InMemoryLoader
    from aleator.data.mixture import DomainMixture
    from aleator.data.mixture_sampler import MixtureSampler
    from aleator.data.mixture_schedules import (
        AnnealedTemperature,
        AutoCooldown,
        Cooldown,
        MixtureSchedule,
        OrderMatters,
        TemperatureSteps,
        Unimax,
    )
    from aleator.data.molecules import MoleculeSet
    from aleator.data.repeated_random import RepeatedRandomSampler
    from aleator.data.temperature import scalarization_weights, temperature_probabilities, variance_factor
    from aleator.data.texts import ParallelCorpus, TextCorpus, TextDomain, read_texts
    from aleator.data.treebanks import TaggedSentence, Treebank

__all__ = [
    "CATALOG",
    "AnnealedTemperature",
    "AutoCooldown",
    "BudgetPlan",
    "Cooldown",
    "DatasetInfo",
    "DomainMixture",
    "Examples",
    "FileStatus",
    "Graph",
    "GraphSet",
    "ImageFacts",
    "InMemoryLoader",
    "LabelledImages",
    "MixtureSampler",
    "MixtureSchedule",
    "MoleculeFacts",
    "MoleculeSet",
    "OrderMatters",
    "ParallelCorpus",
    "RemoteFile",
    "RepeatedRandomSampler",
    "TaggedSentence",
    "TemperatureSteps",
    "TextCorpus",
    "TextDomain",
    "Treebank",
    "Unimax",
    "fetch",
    "load",
    "lookup",
    "read_texts",
    "scalarization_weights",
    "temperature_probabilities",
    "variance_factor",
    "verify",
]

# What needs torch, or numbers, is imported when it is first asked for: data sets can be listed and fetched without it.
__getattr__ = later(
    __name__,
    {
        "AnnealedTemperature": "mixture_schedules",
        "AutoCooldown": "mixture_schedules",
        "BudgetPlan": "budget",
        "Cooldown": "mixture_schedules",
        "DomainMixture": "mixture",
        "Examples": "images",
        "Graph": "graphs",
        "GraphSet": "graphs",
        "InMemoryLoader": "in_memory",
        "LabelledImages": "images",
        "MixtureSampler": "mixture_sampler",
        "MixtureSchedule": "mixture_schedules",
        "MoleculeSet": "molecules",
        "OrderMatters": "mixture_schedules",
        "ParallelCorpus": "texts",
        "RepeatedRandomSampler": "repeated_random",
        "TaggedSentence": "treebanks",
        "TemperatureSteps": "mixture_schedules",
        "TextCorpus": "texts",
        "TextDomain": "texts",
        "Treebank": "treebanks",
        "Unimax": "mixture_schedules",
        "load": "datasets",
        "read_texts": "texts",
        "scalarization_weights": "temperature",
        "temperature_probabilities": "temperature",
        "variance_factor": "temperature",
    },
)
