"""Partial differential equations in many dimensions, solved by networks from a few of their second derivatives."""

from aleator.pde import problems
from aleator.pde.conditions import Condition, Dirichlet, Initial, Neumann, Periodic
from aleator.pde.domains import Ball, Box, Domain, Gaussian
from aleator.pde.equation import Equation
from aleator.pde.errors import Figures, figures, relative_l1, relative_l2
from aleator.pde.loss import pinn_loss
from aleator.pde.networks import mlp
from aleator.pde.pinn import PINN
from aleator.pde.separable import SeparableState, gauss_cells, oscillator_energy

__all__ = [
    "PINN",
    "Ball",
    "Box",
    "Condition",
    "Dirichlet",
    "Domain",
    "Equation",
    "Figures",
    "Gaussian",
    "Initial",
    "Neumann",
    "Periodic",
    "SeparableState",
    "figures",
    "gauss_cells",
    "mlp",
    "oscillator_energy",
    "pinn_loss",
    "problems",
    "relative_l1",
    "relative_l2",
]
