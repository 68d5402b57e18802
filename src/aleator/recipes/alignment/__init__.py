"""Alignment of flows with rewards."""

from aleator.recipes.alignment.options import Alignment

__all__ = ["Alignment"]
