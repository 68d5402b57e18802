"""Which examples a step sees, how many, and where they come from.

`RepeatedRandomSampler` draws a new random subset in every round, `BudgetPlan` counts its steps; ``load`` knows data
sets by name and `InMemoryLoader` hands out batches of them. `DomainMixture` says in what proportion domains are shown
and `MixtureSampler` draws from them.
"""

from typing import TYPE_CHECKING, Any

from aleator.data.catalog import CATALOG, DatasetInfo, RemoteFile, lookup
from aleator.data.files import FileStatus, fetch, verify

if TYPE_CHECKING:
    from aleator.data.budget import BudgetPlan
    from aleator.data.images import Examples, LabelledImages, load
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
    from aleator.data.repeated_random import RepeatedRandomSampler
    from aleator.data.temperature import scalarization_weights, temperature_probabilities, variance_factor

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
    "InMemoryLoader",
    "LabelledImages",
    "MixtureSampler",
    "MixtureSchedule",
    "OrderMatters",
    "RemoteFile",
    "RepeatedRandomSampler",
    "TemperatureSteps",
    "Unimax",
    "fetch",
    "load",
    "lookup",
    "scalarization_weights",
    "temperature_probabilities",
    "variance_factor",
    "verify",
]

# What needs torch, or numbers, is imported when it is first asked for: data sets can be listed and fetched without it.
_LATER = {
    "AnnealedTemperature": "mixture_schedules",
    "AutoCooldown": "mixture_schedules",
    "BudgetPlan": "budget",
    "Cooldown": "mixture_schedules",
    "DomainMixture": "mixture",
    "Examples": "images",
    "InMemoryLoader": "in_memory",
    "LabelledImages": "images",
    "MixtureSampler": "mixture_sampler",
    "MixtureSchedule": "mixture_schedules",
    "OrderMatters": "mixture_schedules",
    "RepeatedRandomSampler": "repeated_random",
    "TemperatureSteps": "mixture_schedules",
    "Unimax": "mixture_schedules",
    "load": "images",
    "scalarization_weights": "temperature",
    "temperature_probabilities": "temperature",
    "variance_factor": "temperature",
}


def __getattr__(name: str) -> Any:
    """Import a name that needs torch."""
    if name in _LATER:
        from importlib import import_module

        return getattr(import_module(f"aleator.data.{_LATER[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
