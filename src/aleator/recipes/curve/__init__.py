"""Learning curves of part-of-speech taggers."""

from aleator.recipes.curve.options import Curve

__all__ = ["Curve"]
