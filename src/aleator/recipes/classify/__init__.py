"""Image classification: the task on which most methods meet."""

from aleator.recipes.classify.options import Classify

__all__ = ["Classify"]
