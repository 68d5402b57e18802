"""Where random numbers come from: one seed, named independent streams."""

from aleator.random.streams import Name, Streams, derive_key

__all__ = ["Name", "Streams", "derive_key"]
