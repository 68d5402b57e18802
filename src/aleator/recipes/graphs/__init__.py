"""Generation of graphs and molecules."""

from aleator.recipes.graphs.options import Graphs

__all__ = ["Graphs"]
