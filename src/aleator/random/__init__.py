"""Sources of random numbers: one seed, named independent streams, numbers that belong to items or have addresses."""

from aleator.random.addressed import Key, checked_keys, random_bits
from aleator.random.directions import KINDS, Kind, Region, subtract_directions
from aleator.random.items import ItemGenerator
from aleator.random.streams import Name, Streams, derive_key

__all__ = [
    "KINDS",
    "ItemGenerator",
    "Key",
    "Kind",
    "Name",
    "Region",
    "Streams",
    "checked_keys",
    "derive_key",
    "random_bits",
    "subtract_directions",
]
