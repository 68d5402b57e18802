"""Neural fields trained on random pixels."""

from aleator.recipes.field.options import Field

__all__ = ["Field"]
