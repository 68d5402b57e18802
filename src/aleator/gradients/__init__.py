"""Estimators of gradients, and measures of how far an estimate is from what it stands for."""

from aleator.gradients.domain_moments import GradientMomentProbe, GradientMoments
from aleator.gradients.mixture_variance import VarianceForecast, batch_gradient_variance, forecast_variance

__all__ = [
    "GradientMomentProbe",
    "GradientMoments",
    "VarianceForecast",
    "batch_gradient_variance",
    "forecast_variance",
]
