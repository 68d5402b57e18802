"""Problems whose solutions are known, each with the trivial predictor that an error has to be seen beside."""

from aleator.pde.problems.closed_forms import BlackScholesBarenblatt, HarmonicOscillator, Wave
from aleator.pde.problems.hjb import HJBLinear, HJBLog, HJBRosenbrock
from aleator.pde.problems.inseparable import ThreeBody, TwoBody
from aleator.pde.problems.problem import Problem
from aleator.pde.problems.semilinear import Semilinear

__all__ = [
    "BlackScholesBarenblatt",
    "HJBLinear",
    "HJBLog",
    "HJBRosenbrock",
    "HarmonicOscillator",
    "Problem",
    "Semilinear",
    "ThreeBody",
    "TwoBody",
    "Wave",
]
