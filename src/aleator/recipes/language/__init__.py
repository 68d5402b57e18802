"""Language modelling in one or several languages."""

from aleator.recipes.language.options import Language

__all__ = ["Language"]
