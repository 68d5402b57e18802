"""Foundations (Younes, Introduction to Machine Learning, arXiv 2409.02668): what of it is for a training library.

The claims come from `experiments.foundations`, a file for each half of the card.
"""

from __future__ import annotations

from experiments.foundations import samples, steps

EXPERIMENTS = (*steps.EXPERIMENTS, *samples.EXPERIMENTS)
