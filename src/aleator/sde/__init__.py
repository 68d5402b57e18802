"""Randomness as dynamics: processes that turn data into noise, and solvers that run them backwards."""

from aleator.sde.euler_maruyama import EulerMaruyama
from aleator.sde.langevin import LangevinCorrector
from aleator.sde.noise import Generator, Noise, gaussian_noise
from aleator.sde.predictor_corrector import PredictorCorrector
from aleator.sde.processes import SDE, VESDE, VPSDE, SubVPSDE, over_trailing
from aleator.sde.reverse_diffusion import ReverseDiffusion
from aleator.sde.s4 import S4
from aleator.sde.solve import Constrain, Score, Solution, Solver, States, System, prior_sample, solve

__all__ = [
    "S4",
    "SDE",
    "VESDE",
    "VPSDE",
    "Constrain",
    "EulerMaruyama",
    "Generator",
    "LangevinCorrector",
    "Noise",
    "PredictorCorrector",
    "ReverseDiffusion",
    "Score",
    "Solution",
    "Solver",
    "States",
    "SubVPSDE",
    "System",
    "gaussian_noise",
    "over_trailing",
    "prior_sample",
    "solve",
]
