"""Estimators of gradients, and measures of how far an estimate is from what it stands for."""

from aleator.gradients.dimensions.algorithms import accumulate_dimensions, residual_loss
from aleator.gradients.dimensions.estimators import SDGD, Exact, Hutchinson
from aleator.gradients.dimensions.operators import LaplacianEstimate, biharmonic, laplacian, squared_gradient
from aleator.gradients.dimensions.taylor import jet, taylor2
from aleator.gradients.dimensions.variance import dimension_variance, hutchinson_variance
from aleator.gradients.dimensions.with_derivatives import PointDerivatives, WithDerivatives
from aleator.gradients.domain_moments import GradientMomentProbe, GradientMoments
from aleator.gradients.example_gradients import ExampleGradients, example_gradients, inner_products
from aleator.gradients.ghost_norms import NoGhostNorm, ghost_norms
from aleator.gradients.grad_stats import GradStats
from aleator.gradients.mixture_variance import VarianceForecast, batch_gradient_variance, forecast_variance
from aleator.gradients.noise_scale import gradient_stats, noise_scale
from aleator.gradients.noise_trace import MicroBatchNorms, TraceStats, between_trace, official_trace, pooled_trace

__all__ = [
    "SDGD",
    "Exact",
    "ExampleGradients",
    "GradStats",
    "GradientMomentProbe",
    "GradientMoments",
    "Hutchinson",
    "LaplacianEstimate",
    "MicroBatchNorms",
    "NoGhostNorm",
    "PointDerivatives",
    "TraceStats",
    "VarianceForecast",
    "WithDerivatives",
    "accumulate_dimensions",
    "batch_gradient_variance",
    "between_trace",
    "biharmonic",
    "dimension_variance",
    "example_gradients",
    "forecast_variance",
    "ghost_norms",
    "gradient_stats",
    "hutchinson_variance",
    "inner_products",
    "jet",
    "laplacian",
    "noise_scale",
    "official_trace",
    "pooled_trace",
    "residual_loss",
    "squared_gradient",
    "taylor2",
]
