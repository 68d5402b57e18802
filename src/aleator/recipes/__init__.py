"""Tasks from end to end, with the methods of the house as their options.

`Supervised` makes a task of a user's own from its data, its network and its loss, with every general method as an
option; `SupervisedBase` is the same with parts to be picked.
"""

from aleator.recipes.parts.supervised import Supervised, SupervisedBase

__all__ = ["Supervised", "SupervisedBase"]
