"""Variants of a recipe, compared over seeds: the plan, the processes that carry it out, what the results say.

``aleator.experiment.compare`` is the door.
"""
