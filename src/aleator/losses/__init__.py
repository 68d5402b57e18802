"""Random objectives: losses whose terms were drawn, and must be weighed for it."""

from aleator.losses.pair_nll import pair_nll
from aleator.losses.scalarized import scalarized_loss
from aleator.losses.score_matching import denoising_score_matching

__all__ = ["denoising_score_matching", "pair_nll", "scalarized_loss"]
