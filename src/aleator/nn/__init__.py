"""The random or newly trainable pieces of a model: stochastic units, their gates, first layers, features, pairs."""

from aleator.nn.boundary_losses import binomial_boundary_loss, hinge_boundary_loss
from aleator.nn.boundary_predictor import Boundaries, BoundaryPredictor, EvalBoundaries
from aleator.nn.conditional_linear import ConditionalLinear
from aleator.nn.estimator_report import EstimatorReport, estimator_report
from aleator.nn.gate_estimator import GateEstimator, StochasticUnits
from aleator.nn.gated_linear import gated_linear
from aleator.nn.gaussian_kernel import gaussian_kernel, kernel_ridge
from aleator.nn.gradient_audit import Audit, GradientAudit
from aleator.nn.kernel_head import KernelHead
from aleator.nn.noisy_relu import NoisyReLU, noisy_relu
from aleator.nn.nystrom import NystromFeatures, leverage_scores
from aleator.nn.pair_distribution import PairDistribution
from aleator.nn.pair_head import PairHead
from aleator.nn.random_fourier_features import RandomFourierFeatures
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
from aleator.nn.segments import segment_broadcast, segment_mean, within_capacity
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
from aleator.nn.stochastic_conditioning import Conditioned, Stage, StochasticConditioning
from aleator.nn.tract import TrAct, apply_tract, first_layer_group, remove_tract
from aleator.nn.tract_gradient import tract_weight_grad
from aleator.nn.tract_preconditioner import TrActPreconditioner

__all__ = [
    "STS",
    "Audit",
    "BernoulliReinforce",
    "BernoulliST",
    "Boundaries",
    "BoundaryPredictor",
    "ConditionalLinear",
    "Conditioned",
    "EstimatorReport",
    "EvalBoundaries",
    "GateEstimator",
    "GradientAudit",
    "KernelHead",
    "MinVarianceBaseline",
    "NoisyReLU",
    "NystromFeatures",
    "PairDistribution",
    "PairHead",
    "RandomFourierFeatures",
    "ReinMaxBernoulli",
    "RelaxedBernoulliST",
    "SparsityController",
    "Stage",
    "StochasticConditioning",
    "StochasticUnits",
    "TrAct",
    "TrActPreconditioner",
    "apply_tract",
    "arm",
    "bernoulli_reinforce",
    "bernoulli_st",
    "binomial_boundary_loss",
    "disarm",
    "estimator_report",
    "first_layer_group",
    "gated_linear",
    "gaussian_kernel",
    "hinge_boundary_loss",
    "kernel_ridge",
    "leverage_scores",
    "noisy_relu",
    "reinforce",
    "reinmax_bernoulli",
    "relaxed_bernoulli_st",
    "remove_tract",
    "rloo",
    "score_loss",
    "segment_broadcast",
    "segment_mean",
    "sparsity_penalty",
    "sts",
    "surrogate",
    "tract_weight_grad",
    "within_capacity",
]
