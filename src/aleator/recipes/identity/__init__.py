"""Clips of somebody who is known from one photograph."""

from aleator.recipes.identity.options import Identity

__all__ = ["Identity"]
