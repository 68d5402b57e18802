"""Random objectives: losses whose terms were drawn, and must be weighed for it."""

from aleator.losses.pair_nll import pair_nll
from aleator.losses.s3im import S3IM, s3im, s3im_weight
from aleator.losses.scalarized import scalarized_loss
from aleator.losses.score_matching import denoising_score_matching

__all__ = ["S3IM", "denoising_score_matching", "pair_nll", "s3im", "s3im_weight", "scalarized_loss"]
