"""What is random inside the model: stochastic units, the gradients through them, and layers that they gate."""

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
    "GateEstimator",
    "MinVarianceBaseline",
    "NoisyReLU",
    "ReinMaxBernoulli",
    "RelaxedBernoulliST",
    "StochasticUnits",
    "arm",
    "bernoulli_reinforce",
    "bernoulli_st",
    "disarm",
    "noisy_relu",
    "reinforce",
    "reinmax_bernoulli",
    "relaxed_bernoulli_st",
    "rloo",
    "score_loss",
    "sts",
    "surrogate",
]
