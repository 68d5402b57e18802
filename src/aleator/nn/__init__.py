"""What is random, or made trainable, inside the model."""

from aleator.nn.boundary_losses import binomial_boundary_loss, hinge_boundary_loss
from aleator.nn.boundary_predictor import Boundaries, BoundaryEstimator, BoundaryPredictor, EvalBoundaries
from aleator.nn.segments import segment_broadcast, segment_mean

__all__ = [
    "Boundaries",
    "BoundaryEstimator",
    "BoundaryPredictor",
    "EvalBoundaries",
    "binomial_boundary_loss",
    "hinge_boundary_loss",
    "segment_broadcast",
    "segment_mean",
]
