"""The examples that a step sees: their choice, their number and their sources.

`RepeatedRandomSampler` draws a new random subset in every round, `BudgetPlan` counts its steps; `DomainMixture` says in
what proportion domains are shown and `MixtureSampler` draws from them; `PairSampler` draws two answers to one question.
`BatchSizeController` lets batches grow when their gradients are too noisy, and `VariableBatchSampler` cuts them.
``load`` knows images, texts, treebanks, graphs, molecules and views of scenes by name, `moving_digits` makes clips of
images; `table_splits`, `text_splits`, `image_splits` and `read_texts` take a user's own files, and `InMemoryLoader`
hands out batches.
"""

from typing import TYPE_CHECKING

from aleator.data.sets.catalog import CATALOG, lookup
from aleator.data.sets.entries import DatasetInfo, ImageFacts, MoleculeFacts, RemoteFile
from aleator.data.sets.files import FileStatus, fetch, verify
from aleator.later import later

if TYPE_CHECKING:
    from aleator.data.batch_size import BatchPlan, BatchSizeController, largest_micro, split_batch
    from aleator.data.batch_tests import BatchTest, required_batch_size
    from aleator.data.budget import BudgetPlan
    from aleator.data.in_memory import InMemoryLoader
    from aleator.data.mixtures.mixture import DomainMixture
    from aleator.data.mixtures.sampler import MixtureSampler
    from aleator.data.mixtures.schedules import (
        AnnealedTemperature,
        AutoCooldown,
        Cooldown,
        MixtureSchedule,
        OrderMatters,
        TemperatureSteps,
        Unimax,
    )
    from aleator.data.mixtures.temperature import scalarization_weights, temperature_probabilities, variance_factor
    from aleator.data.own.folder_splits import image_splits, text_splits
    from aleator.data.own.table_splits import table_splits
    from aleator.data.pair_sampler import PairSampler
    from aleator.data.repeated_random import RepeatedRandomSampler
    from aleator.data.sets.faces import Faces
    from aleator.data.sets.graphs import Graph, GraphSet
    from aleator.data.sets.images import AnsweredImages, Examples, LabelledImages
    from aleator.data.sets.load import load
    from aleator.data.sets.molecules import MoleculeSet
    from aleator.data.sets.moving_digits import Motions, MovingDigits, moving_digits
    from aleator.data.sets.texts import ParallelCorpus, TextCorpus, TextDomain, read_texts
    from aleator.data.sets.treebanks import TaggedSentence, Treebank
    from aleator.data.sets.views import Pictures, Views, read_picture
    from aleator.data.variable_batches import VariableBatchSampler

__all__ = [
    "CATALOG",
    "AnnealedTemperature",
    "AnsweredImages",
    "AutoCooldown",
    "BatchPlan",
    "BatchSizeController",
    "BatchTest",
    "BudgetPlan",
    "Cooldown",
    "DatasetInfo",
    "DomainMixture",
    "Examples",
    "Faces",
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
    "Motions",
    "MovingDigits",
    "OrderMatters",
    "PairSampler",
    "ParallelCorpus",
    "Pictures",
    "RemoteFile",
    "RepeatedRandomSampler",
    "TaggedSentence",
    "TemperatureSteps",
    "TextCorpus",
    "TextDomain",
    "Treebank",
    "Unimax",
    "VariableBatchSampler",
    "Views",
    "fetch",
    "image_splits",
    "largest_micro",
    "load",
    "lookup",
    "moving_digits",
    "read_picture",
    "read_texts",
    "required_batch_size",
    "scalarization_weights",
    "split_batch",
    "table_splits",
    "temperature_probabilities",
    "text_splits",
    "variance_factor",
    "verify",
]

# What needs torch, or numbers, is imported when it is first asked for: data sets can be listed and fetched without it.
__getattr__ = later(
    __name__,
    {
        "AnnealedTemperature": "mixtures.schedules",
        "AnsweredImages": "sets.images",
        "AutoCooldown": "mixtures.schedules",
        "BatchPlan": "batch_size",
        "BatchSizeController": "batch_size",
        "BatchTest": "batch_tests",
        "BudgetPlan": "budget",
        "Cooldown": "mixtures.schedules",
        "DomainMixture": "mixtures.mixture",
        "Examples": "sets.images",
        "Faces": "sets.faces",
        "Graph": "sets.graphs",
        "GraphSet": "sets.graphs",
        "InMemoryLoader": "in_memory",
        "LabelledImages": "sets.images",
        "MixtureSampler": "mixtures.sampler",
        "MixtureSchedule": "mixtures.schedules",
        "MoleculeSet": "sets.molecules",
        "Motions": "sets.moving_digits",
        "MovingDigits": "sets.moving_digits",
        "OrderMatters": "mixtures.schedules",
        "PairSampler": "pair_sampler",
        "ParallelCorpus": "sets.texts",
        "Pictures": "sets.views",
        "RepeatedRandomSampler": "repeated_random",
        "TaggedSentence": "sets.treebanks",
        "TemperatureSteps": "mixtures.schedules",
        "TextCorpus": "sets.texts",
        "TextDomain": "sets.texts",
        "Treebank": "sets.treebanks",
        "Unimax": "mixtures.schedules",
        "VariableBatchSampler": "variable_batches",
        "Views": "sets.views",
        "image_splits": "own.folder_splits",
        "largest_micro": "batch_size",
        "load": "sets.load",
        "moving_digits": "sets.moving_digits",
        "read_picture": "sets.views",
        "read_texts": "sets.texts",
        "required_batch_size": "batch_tests",
        "scalarization_weights": "mixtures.temperature",
        "split_batch": "batch_size",
        "table_splits": "own.table_splits",
        "temperature_probabilities": "mixtures.temperature",
        "text_splits": "own.folder_splits",
        "variance_factor": "mixtures.temperature",
    },
)
