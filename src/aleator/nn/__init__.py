"""What is random inside the model: stochastic units, the gradients through them, and layers that they gate."""

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
    "ConditionalLinear",
    "EstimatorReport",
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
    "disarm",
    "estimator_report",
    "gated_linear",
    "noisy_relu",
    "reinforce",
    "reinmax_bernoulli",
    "relaxed_bernoulli_st",
    "rloo",
    "score_loss",
    "sparsity_penalty",
    "sts",
    "surrogate",
]
