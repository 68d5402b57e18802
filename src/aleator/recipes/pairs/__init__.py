"""Predicting two answers to one question, to know what is not known."""

from aleator.recipes.pairs.options import Pairs

__all__ = ["Pairs"]
