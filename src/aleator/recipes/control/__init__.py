"""Agents that learn to act in an environment."""

from aleator.recipes.control.options import Control

__all__ = ["Control"]
