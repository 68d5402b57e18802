"""Sources of random numbers: one seed, named independent streams, numbers that belong to items."""

from aleator.random.items import ItemGenerator
from aleator.random.streams import Name, Streams, derive_key

__all__ = ["ItemGenerator", "Name", "Streams", "derive_key"]
