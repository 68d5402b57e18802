"""Partial differential equations in many dimensions, from a few of their second derivatives."""

from aleator.recipes.pde.options import Pde

__all__ = ["Pde"]
