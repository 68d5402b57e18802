"""Semilinear parabolic equations, of which one number is wanted: u(0, 0).

    u_t + Δu + φ(u) = 0,  u(x, T) = g(x),  T = 0.3

    allen-cahn    φ = u − u³               g = arctan(max_i x_i)
    heat          φ = (1 − u²)/(1 + u²)    g = 5/(10 + 2|x|²)
    sine-gordon   φ = sin u                g = 5/(10 + 2|x|²)

The references are values of multilevel Picard schemes that the authors give for 10, 100, 1 000 and 10 000 dimensions.
Points lie on paths √2 W_t, where the solution near (0, 0) comes from. In many dimensions g is nearly constant there,
and the trivial predictor is v(T) with v(0) = E g(√(2T) Z) and v' = φ(v): the mean of g, and one scalar equation.
Z. Hu et al., arXiv 2307.12306, section 5.2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy import integrate, special
from torch import Tensor

from aleator.pde.conditions import Initial
from aleator.pde.domains import Gaussian
from aleator.pde.equation import Equation
from aleator.pde.problems.problem import Problem

Kind = Literal["allen-cahn", "heat", "sine-gordon"]

HORIZON = 0.3
_REFERENCES: dict[str, dict[int, float]] = {
    "allen-cahn": {10: 0.89060, 100: 1.04510, 1000: 1.09100, 10_000: 1.11402},
    "heat": {10: 0.47006, 100: 0.31674, 1000: 0.28753, 10_000: 0.28433},
    "sine-gordon": {10: 0.3229470, 100: 0.0528368, 1000: 0.0055896, 10_000: 0.0005621},
}
_QUANTILES = 20_000


class Semilinear(Problem):
    """One of the three equations; see the module.

    Sine-Gordon is solved for d·u, as the authors do it, since u is about 5/d: u' = d u fulfils the equation with
    φ = d sin(u'/d). Figures are the same, since they are relative.

    Args:
        kind: which.
        d: dimensions of space.

    Raises:
        ValueError: if the kind is unknown.
    """

    trivial_name = "v(T), v' = φ(v), from the mean of g"
    known_points = 1

    def __init__(self, kind: Kind, d: int) -> None:
        if kind not in _REFERENCES:
            raise ValueError(f"kind must be one of {', '.join(_REFERENCES)}, got {kind!r}")
        self.domain = Gaussian(d, (0.0, HORIZON), law="brownian")
        self.kind, self.d = kind, d
        self.arguments = {"kind": kind, "d": d}
        self.scale = float(d) if kind == "sine-gordon" else 1.0
        self.equation = Equation(self._residual)
        # 20 (value + 0.05 gradient), the weights of both implementations.
        self.conditions = (Initial(self._terminal, "last", weight=20.0, gradient_weight=1.0),)

    @property
    def reference(self) -> float:
        """The published value of u(0, 0).

        Raises:
            ValueError: if there is none for so many dimensions.
        """
        known = _REFERENCES[self.kind]
        if self.d not in known:
            raise ValueError(f"d must be one of {', '.join(map(str, known))} for a reference, got {self.d}")
        return known[self.d]

    def exact(self, *points: Tensor) -> Float[Tensor, " n"]:
        """Return what is known of the solution: the reference at (0, 0), and NaN elsewhere."""
        x, t = points
        origin = (x == 0).all(1) & (t == 0)
        return torch.where(origin, self.scale * self.reference, math.nan).to(x.dtype)

    def held_out(self, n: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
        """Return the one point whose value is known."""
        return torch.zeros(1, self.d + 1, dtype=dtype, device=generator.device)

    def trivial_parts(self, points: Tensor) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return the trivial predictor of u(0, 0) for every point, and nothing to fit."""
        return torch.full_like(points[:, 0], self.scale * self.trivial_value), torch.zeros_like(points[:, 0])

    @property
    def trivial_value(self) -> float:
        """The trivial predictor of u(0, 0)."""
        solved = integrate.solve_ivp(
            lambda t, v: _phi(self.kind, v, np.sin), (0.0, HORIZON), [self._mean_of_g()], rtol=1e-10, atol=1e-14
        )
        return float(solved.y[0, -1])

    def _mean_of_g(self) -> float:
        """Return E g(√(2T) Z) as a mean over quantiles of the one number that g depends on."""
        share = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
        if self.kind == "allen-cahn":
            # The largest of d normal numbers is below m with probability Φ(m)^d; 1 − q^(1/d) without cancellation.
            largest = -special.ndtri(-np.expm1(np.log(share) / self.d))
            return float(np.arctan(math.sqrt(2 * HORIZON) * largest).mean())
        squares = special.chdtri(self.d, share)  # chi-square with d degrees of freedom, from above
        return float((5 / (10 + 4 * HORIZON * squares)).mean())

    def _terminal(self, x: Tensor) -> Tensor:
        space = x[:, : self.d]
        if self.kind == "allen-cahn":
            return torch.atan(space.amax(1))
        return self.scale * 5 / (10 + 2 * space.square().sum(1))

    def _residual(self, *, u: Tensor, lap: Tensor, u_t: Tensor) -> Tensor:
        phi: Tensor = _phi(self.kind, u / self.scale, torch.sin)
        return u_t + lap + self.scale * phi


def _phi(kind: str, u: Any, sin: Callable[[Any], Any]) -> Any:
    if kind == "allen-cahn":
        return u - u**3
    if kind == "heat":
        return (1 - u**2) / (1 + u**2)
    return sin(u)
