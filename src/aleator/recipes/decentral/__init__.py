"""Training together over one byte per gradient."""

from aleator.recipes.decentral.options import Decentral

__all__ = ["Decentral"]
