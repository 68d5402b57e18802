"""What is random inside the model: stochastic units, the gradients through them, and what they gate or part."""

from aleator.nn.boundary_losses import binomial_boundary_loss, hinge_boundary_loss
from aleator.nn.boundary_predictor import Boundaries, BoundaryPredictor, EvalBoundaries
from aleator.nn.gate_estimator import GateEstimator, StochasticUnits
from aleator.nn.noisy_relu import NoisyReLU, noisy_relu
from aleator.nn.score_function import (
    BernoulliReinforce,
    MinVarianceBaseline,
    arm,
    bernoulli_reinforce,
    disarm,
    reinforce,
    rloo,
    score_loss,
    surrogate,
)
from aleator.nn.segments import segment_broadcast, segment_mean
from aleator.nn.stochastic_binary import (
    STS,
    BernoulliST,
    ReinMaxBernoulli,
    RelaxedBernoulliST,
    bernoulli_st,
    reinmax_bernoulli,
    relaxed_bernoulli_st,
    sts,
)

__all__ = [
    "STS",
    "BernoulliReinforce",
    "BernoulliST",
    "Boundaries",
    "BoundaryPredictor",
    "EvalBoundaries",
    "GateEstimator",
    "MinVarianceBaseline",
    "NoisyReLU",
    "ReinMaxBernoulli",
    "RelaxedBernoulliST",
    "StochasticUnits",
    "arm",
    "bernoulli_reinforce",
    "bernoulli_st",
    "binomial_boundary_loss",
    "disarm",
    "hinge_boundary_loss",
    "noisy_relu",
    "reinforce",
    "reinmax_bernoulli",
    "relaxed_bernoulli_st",
    "rloo",
    "score_loss",
    "segment_broadcast",
    "segment_mean",
    "sts",
    "surrogate",
]
