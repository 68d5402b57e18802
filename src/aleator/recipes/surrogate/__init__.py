"""Target surrogates where the gradient in the outputs is expensive."""

from aleator.recipes.surrogate.options import Surrogate

__all__ = ["Surrogate"]
