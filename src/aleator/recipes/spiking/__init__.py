"""Spiking classifiers that learn without backpropagation."""

from aleator.recipes.spiking.options import Spiking

__all__ = ["Spiking"]
