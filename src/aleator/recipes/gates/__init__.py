"""Networks of stochastic gates."""

from aleator.recipes.gates.options import Gates

__all__ = ["Gates"]
