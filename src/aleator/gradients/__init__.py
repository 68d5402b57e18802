"""Estimators of gradients, and measures of how far an estimate is from what it stands for."""

from aleator.gradients.domain_moments import GradientMomentProbe, GradientMoments
from aleator.gradients.example_gradients import ExampleGradients, example_gradients, inner_products
from aleator.gradients.ghost_norms import NoGhostNorm, ghost_norms
from aleator.gradients.grad_stats import GradStats
from aleator.gradients.mixture_variance import VarianceForecast, batch_gradient_variance, forecast_variance
from aleator.gradients.noise_scale import gradient_stats, noise_scale
from aleator.gradients.noise_trace import MicroBatchNorms, TraceStats, between_trace, official_trace, pooled_trace

__all__ = [
    "ExampleGradients",
    "GradStats",
    "GradientMomentProbe",
    "GradientMoments",
    "MicroBatchNorms",
    "NoGhostNorm",
    "TraceStats",
    "VarianceForecast",
    "batch_gradient_variance",
    "between_trace",
    "example_gradients",
    "forecast_variance",
    "ghost_norms",
    "gradient_stats",
    "inner_products",
    "noise_scale",
    "official_trace",
    "pooled_trace",
]
