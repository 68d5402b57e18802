"""A heat equation of one's own, solved by a network, and its error beside the exact solution.

A square plate begins with the temperature sin x · sin y and is kept at 0 on its edges: u_t = Δu, whose solution is
exp(−2t) sin x sin y. The network knows the equation and the conditions and no solution. Takes half a minute; the number
of training steps may be given:

    python examples/heat_in_a_square.py [STEPS]
"""

import math
import sys

import torch
from torch import Tensor

from aleator.pde import PINN, Box, Dirichlet, Initial, mlp, relative_l2
from aleator.random import Streams

STEPS = int(sys.argv[1]) if len(sys.argv) > 1 else 2000


def residual(*, u_t: Tensor, lap: Tensor) -> Tensor:
    """Return what is 0 where the equation holds."""
    return u_t - lap


def at_first(x: Tensor) -> Tensor:
    """Return the temperature at the first instant."""
    return torch.sin(x[:, 0]) * torch.sin(x[:, 1])


def exact(x: Tensor) -> Tensor:
    """Return the solution at points [x, y, t]."""
    return torch.exp(-2 * x[:, 2]) * at_first(x)


plate = Box(2, time=(0.0, 1.0), low=0.0, high=math.pi)
conditions = (Initial(at_first, weight=10.0), Dirichlet(0.0, weight=10.0))
with Streams(0).scope("network"):
    network = mlp(inputs=3, width=32)
pinn = PINN(residual, plate, conditions, network=network, points=64)

points = plate.sample(2000, Streams(0).generator("test"))
print(f"before: relative error {relative_l2(pinn.predict(points), exact(points)):.3f}")
pinn.fit(STEPS, lr=5e-3)
print(f"after {STEPS} steps: relative error {relative_l2(pinn.predict(points), exact(points)):.3f}")
