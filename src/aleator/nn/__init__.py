"""What is random inside the model: stochastic units, the gradients through them, and what they gate or part."""

from aleator.nn.boundary_losses import binomial_boundary_loss, hinge_boundary_loss
from aleator.nn.boundary_predictor import Boundaries, BoundaryPredictor, EvalBoundaries
from aleator.nn.conditional_linear import ConditionalLinear
from aleator.nn.estimator_report import EstimatorReport, estimator_report
from aleator.nn.gate_estimator import GateEstimator, StochasticUnits
from aleator.nn.gated_linear import gated_linear
from aleator.nn.gradient_audit import Audit, GradientAudit
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
from aleator.nn.sparsity import SparsityController, sparsity_penalty
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
    "Audit",
    "BernoulliReinforce",
    "BernoulliST",
    "Boundaries",
    "BoundaryPredictor",
    "ConditionalLinear",
    "EstimatorReport",
    "EvalBoundaries",
    "GateEstimator",
    "GradientAudit",
    "MinVarianceBaseline",
    "NoisyReLU",
    "ReinMaxBernoulli",
    "RelaxedBernoulliST",
    "SparsityController",
    "StochasticUnits",
    "arm",
    "bernoulli_reinforce",
    "bernoulli_st",
    "binomial_boundary_loss",
    "disarm",
    "estimator_report",
    "gated_linear",
    "hinge_boundary_loss",
    "noisy_relu",
    "reinforce",
    "reinmax_bernoulli",
    "relaxed_bernoulli_st",
    "rloo",
    "score_loss",
    "segment_broadcast",
    "segment_mean",
    "sparsity_penalty",
    "sts",
    "surrogate",
]
