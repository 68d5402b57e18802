"""Equations with solutions in closed form: Black–Scholes–Barenblatt, a wave, and the harmonic oscillator.

black–scholes   u_t + ½ σ² Σ x_i² u_ii − r (u − x·∇u) = 0      u = e^{(r + σ²)(T − t)} |x|²
wave            u_tt − Δu = 0                                  u = cosh t · Σ sinh x_i
oscillator      −Δu + |x|² u − d u = 0                         u = exp(−|x|²/2), the ground state, of energy d
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.pde.ansatz import Product, SphereFactor, TimeFactor
from aleator.pde.conditions import Constant, Dirichlet
from aleator.pde.domains import Ball, Box, Gaussian
from aleator.pde.equation import Equation
from aleator.pde.problems.problem import Problem


class BlackScholesBarenblatt(Problem):
    """Options on d assets, backward from ``|x|²``. Its second derivatives have the weights ½ σ² x_i².

    Args:
        d: assets.
        sigma: σ.
        rate: r.
        horizon: T.

    Raises:
        ValueError: if σ is not positive and finite, or r not finite.
    """

    trivial_name = "k |x|² with the best k"

    def __init__(self, d: int, sigma: float = 0.4, rate: float = 0.05, horizon: float = 1.0) -> None:
        if not 0 < sigma < math.inf:
            raise ValueError(f"sigma must be positive and finite, got {sigma}")
        if not math.isfinite(rate):
            raise ValueError(f"rate must be finite, got {rate}")
        self.domain = Gaussian(d, (0.0, horizon))
        self.arguments = {"d": d, "sigma": sigma, "rate": rate, "horizon": horizon}
        self.d, self.sigma, self.rate, self.horizon = d, sigma, rate, horizon
        self.factor, self.offset = TimeFactor(d, horizon, -horizon), self._pay
        self.equation = Equation(self._residual, weights=lambda x: 0.5 * sigma**2 * x[:, :d].square())

    def exact(self, *points: Tensor) -> Float[Tensor, " n"]:
        """Return the solution."""
        x, t = points
        return torch.exp((self.rate + self.sigma**2) * (self.horizon - t)) * x.square().sum(1)

    def trivial_parts(self, points: Tensor) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return 0 and |x|²."""
        return torch.zeros_like(points[:, 0]), self._pay(points)

    def _pay(self, x: Any) -> Any:
        return x[:, : self.d].square().sum(1)

    def _residual(self, *, x: Tensor, u: Tensor, lap: Tensor, grad: Tensor, u_t: Tensor) -> Tensor:
        return u_t + lap - self.rate * (u - (x[:, : self.d] * grad).sum(-1))


class Wave(Problem):
    """A wave in the box [−1, 1]^d that begins at rest; what it is on the boundary is a soft condition.

    Args:
        d: dimensions of space.
        horizon: T.
    """

    trivial_name = "k Σ sinh x_i with the best k"

    def __init__(self, d: int, horizon: float = 1.0) -> None:
        self.domain = Box(d, (0.0, horizon), -1.0, 1.0)
        self.arguments = {"d": d, "horizon": horizon}
        self.d = d
        # g + (t/T)² net is at rest at t = 0.
        self.factor, self.offset = Product((TimeFactor(d, 0.0, horizon),) * 2), self._at_rest
        self.conditions = (Dirichlet(self.solution),)
        self.equation = Equation(self._residual)

    def exact(self, *points: Tensor) -> Float[Tensor, " n"]:
        """Return the solution."""
        x, t = points
        return torch.cosh(t) * torch.sinh(x).sum(1)

    def trivial_parts(self, points: Tensor) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return 0 and Σ sinh x_i."""
        return torch.zeros_like(points[:, 0]), self._at_rest(points)

    def _at_rest(self, x: Any) -> Any:
        return torch.sinh(x[:, : self.d]).sum(1)

    def _residual(self, *, lap: Tensor, u_tt: Tensor) -> Tensor:
        return u_tt - lap


class HarmonicOscillator(Problem):
    """Schrödinger's equation of the harmonic oscillator at its lowest energy, in a ball.

    Values on the sphere, exp(−R²/2), fix the scale of the wave function. Its energy as a functional of a product of
    functions of single coordinates, in any number of dimensions, is `aleator.pde.oscillator_energy`.

    Args:
        d: dimensions.
        radius: R.
    """

    trivial_name = "g + k (1 - |x|²/R²) with the best k"

    def __init__(self, d: int, radius: float = 1.0) -> None:
        self.domain = Ball(d, radius=radius)
        self.arguments = {"d": d, "radius": radius}
        self.d = d
        self.factor, self.offset = SphereFactor(d, radius), Constant(math.exp(-0.5 * radius**2))
        self.equation = Equation(self._residual)

    @property
    def energy(self) -> float:
        """The energy of the ground state."""
        return float(self.d)

    def exact(self, *points: Tensor) -> Float[Tensor, " n"]:
        """Return the ground state, 1 at the centre."""
        (x,) = points
        return torch.exp(-0.5 * x.square().sum(1))

    def _residual(self, *, x: Tensor, u: Tensor, lap: Tensor) -> Tensor:
        return (x.square().sum(1) - self.d) * u - lap
