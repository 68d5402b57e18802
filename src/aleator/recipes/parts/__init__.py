"""The common ground of supervised tasks, by which a method becomes an option of every one of them."""

from aleator.recipes.parts.part import Act, Part

__all__ = ["Act", "Part"]
