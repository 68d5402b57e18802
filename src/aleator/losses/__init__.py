"""Which random objective a step descends: losses whose terms were drawn, and must be weighed for it."""

from aleator.losses.scalarized import scalarized_loss

__all__ = ["scalarized_loss"]
