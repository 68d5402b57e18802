"""Estimators of gradients, and measures of how far an estimate is from what it stands for."""

from aleator.gradients.codes import log8_decode, log8_encode, log8_table, log9_decode, log9_encode, sendable
from aleator.gradients.dimensions.algorithms import accumulate_dimensions, residual_loss
from aleator.gradients.dimensions.estimators import SDGD, Exact, Hutchinson
from aleator.gradients.dimensions.operators import LaplacianEstimate, biharmonic, laplacian, squared_gradient
from aleator.gradients.dimensions.taylor import jet, taylor2
from aleator.gradients.dimensions.variance import dimension_variance, hutchinson_variance
from aleator.gradients.dimensions.with_derivatives import PointDerivatives, WithDerivatives
from aleator.gradients.domain_moments import GradientMomentProbe, GradientMoments
from aleator.gradients.example_gradients import ExampleGradients, example_gradients, inner_products
from aleator.gradients.functional import functional_loss, trainable
from aleator.gradients.ghost_norms import NoGhostNorm, ghost_norms
from aleator.gradients.grad_stats import GradStats
from aleator.gradients.micro_batch_hook import MicroBatchNormHook
from aleator.gradients.mixture_variance import VarianceForecast, batch_gradient_variance, forecast_variance
from aleator.gradients.noise_scale import gradient_stats, noise_scale
from aleator.gradients.noise_trace import TraceStats, between_trace, official_trace, pooled_trace
from aleator.gradients.rate_check import RateCheck, check_rates
from aleator.gradients.spsa import (
    NonFiniteLoss,
    apply_scalars,
    apply_scalars_,
    direction,
    scalar_coefficients,
    spsa,
    subtract_directions_,
)

__all__ = [
    "SDGD",
    "Exact",
    "ExampleGradients",
    "GradStats",
    "GradientMomentProbe",
    "GradientMoments",
    "Hutchinson",
    "LaplacianEstimate",
    "MicroBatchNormHook",
    "NoGhostNorm",
    "NonFiniteLoss",
    "PointDerivatives",
    "RateCheck",
    "TraceStats",
    "VarianceForecast",
    "WithDerivatives",
    "accumulate_dimensions",
    "apply_scalars",
    "apply_scalars_",
    "batch_gradient_variance",
    "between_trace",
    "biharmonic",
    "check_rates",
    "dimension_variance",
    "direction",
    "example_gradients",
    "forecast_variance",
    "functional_loss",
    "ghost_norms",
    "gradient_stats",
    "hutchinson_variance",
    "inner_products",
    "jet",
    "laplacian",
    "log8_decode",
    "log8_encode",
    "log8_table",
    "log9_decode",
    "log9_encode",
    "noise_scale",
    "official_trace",
    "pooled_trace",
    "residual_loss",
    "scalar_coefficients",
    "sendable",
    "spsa",
    "squared_gradient",
    "subtract_directions_",
    "taylor2",
    "trainable",
]
