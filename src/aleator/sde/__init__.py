"""Randomness as dynamics: processes that turn data into noise, solvers that run them backwards, and samplers."""

from aleator.sde.chains import Chains, LogDensity
from aleator.sde.cyclical_steps import CyclicalSteps
from aleator.sde.euler_maruyama import EulerMaruyama
from aleator.sde.flow import FlowNoise, FlowSDE, FlowStep, check_sigmas, shifted_sigmas
from aleator.sde.hmc import HMC, leapfrog
from aleator.sde.langevin import LangevinCorrector
from aleator.sde.mala import MALA, mala_proposal
from aleator.sde.noise import Generator, Noise, gaussian_noise
from aleator.sde.preconditioned_sgld import PreconditionedSGLD
from aleator.sde.predictor_corrector import PredictorCorrector
from aleator.sde.processes import SDE, VESDE, VPSDE, SubVPSDE, over_trailing
from aleator.sde.reverse_diffusion import ReverseDiffusion
from aleator.sde.reward_guidance import RewardGuidance
from aleator.sde.s4 import S4
from aleator.sde.sghmc import SGHMC
from aleator.sde.sgld import SGLD
from aleator.sde.solve import Constrain, Score, Solution, Solver, States, System, prior_sample, solve

__all__ = [
    "HMC",
    "MALA",
    "S4",
    "SDE",
    "SGHMC",
    "SGLD",
    "VESDE",
    "VPSDE",
    "Chains",
    "Constrain",
    "CyclicalSteps",
    "EulerMaruyama",
    "FlowNoise",
    "FlowSDE",
    "FlowStep",
    "Generator",
    "LangevinCorrector",
    "LogDensity",
    "Noise",
    "PreconditionedSGLD",
    "PredictorCorrector",
    "ReverseDiffusion",
    "RewardGuidance",
    "Score",
    "Solution",
    "Solver",
    "States",
    "SubVPSDE",
    "System",
    "check_sigmas",
    "gaussian_noise",
    "leapfrog",
    "mala_proposal",
    "over_trailing",
    "prior_sample",
    "shifted_sigmas",
    "solve",
]
