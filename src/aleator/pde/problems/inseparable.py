"""Elliptic equations in the unit ball whose solutions do not separate: pairs or triples of neighbours interact.

    two-body     u* = (1 − |x|²) Σ_{i<d}   c_i sin(x_i + cos x_{i+1} + x_{i+1} cos x_i)
    three-body   u* = (1 − |x|²) Σ_{i<d−1} c_i exp(x_i x_{i+1} x_{i+2})

    poisson Δu = f      allen-cahn Δu + u − u³ = f      sine-gordon Δu + sin u = f

f is the operator applied to u*, from its derivatives in closed form. With c_i ~ N(0, 1) the dimensions are not alike:
the solution is anisotropic. With radii uniform in [0, 1] a coordinate is about 1/√d, and u* ≈ k (1 − |x|²): the trivial
predictor is the best k. Z. Hu et al., arXiv 2307.12306, section 5.1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from aleator.pde.ansatz import SphereFactor
from aleator.pde.domains import Ball
from aleator.pde.equation import Equation
from aleator.pde.problems.problem import Problem

Operator = Literal["poisson", "allen-cahn", "sine-gordon"]
_NONLINEAR: dict[str, Callable[[Tensor], Tensor]] = {
    "poisson": lambda u: torch.zeros_like(u),
    "allen-cahn": lambda u: u - u**3,
    "sine-gordon": lambda u: torch.sin(u),
}


class Inseparable(Problem):
    """(1 − |x|²) S(x) with a sum S over groups of neighbours.

    Args:
        operator: what is applied to it.
        d: dimensions.
        seed: of the coefficients, which are those of the authors' code: numpy's ``RandomState(seed).randn``.
        coefficients: given instead, (d − 1,) or (d − 2,).

    Raises:
        ValueError: if the operator is unknown, d is too small, or the coefficients have another shape.
    """

    bodies: int
    trivial_name = "k (1 - |x|²) with the best k"

    def __init__(
        self,
        operator: Operator,
        d: int,
        seed: int = 0,
        coefficients: Float[Tensor, " terms"] | Float[ndarray, " terms"] | Sequence[float] | None = None,
    ) -> None:
        if operator not in _NONLINEAR:
            raise ValueError(f"operator must be one of {', '.join(_NONLINEAR)}, got {operator!r}")
        self.domain = Ball(d)
        if d < self.bodies:
            raise ValueError(f"d must be at least {self.bodies}, got {d}")
        self.operator, self.d = operator, d
        given = None if coefficients is None else torch.as_tensor(coefficients, dtype=torch.float64)
        listed = None if given is None else given.tolist()
        self.arguments = {"operator": operator, "d": d, "seed": seed, "coefficients": listed}
        terms = d - self.bodies + 1
        if given is None:
            given = torch.from_numpy(np.random.RandomState(seed % 2**32).randn(1, terms)[0])
        if given.shape != (terms,):
            raise ValueError(f"coefficients must be of shape ({terms},), got {tuple(given.shape)}")
        if not bool(torch.isfinite(given).all()):
            raise ValueError(f"coefficients must be finite, got {listed}")
        self.coefficients = given
        self.factor = SphereFactor(d)
        self.equation = Equation(self._residual)
        self._cast: dict[Any, Tensor] = {}

    def exact(self, *points: Tensor) -> Float[Tensor, " n"]:
        """Return u*."""
        (x,) = points
        return (1 - x.square().sum(1)) * self._sum(x)

    def source(self, x: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
        """Return f."""
        s, slope, curvature = self._derivatives(x)
        inside = 1 - x.square().sum(1)
        # Δ(m S) = m ΔS + 2 ∇m·∇S + S Δm with ∇m = −2x, Δm = −2d.
        laplacian = inside * curvature - 4 * slope - 2 * self.d * s
        u = inside * s
        return laplacian + _NONLINEAR[self.operator](u)

    def _residual(self, *, x: Tensor, u: Tensor, lap: Tensor) -> Tensor:
        return lap + _NONLINEAR[self.operator](u) - self.source(x)

    def _of(self, x: Tensor) -> Tensor:
        """Return the coefficients as x has its numbers, moved once."""
        key = (x.dtype, x.device)
        if key not in self._cast:
            self._cast[key] = self.coefficients.to(x)
        return self._cast[key]

    def _sum(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _derivatives(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return S, x·∇S and ΔS."""
        raise NotImplementedError


class TwoBody(Inseparable):
    """Pairs of neighbours: S = Σ c_i sin(x_i + cos x_{i+1} + x_{i+1} cos x_i); see `Inseparable`."""

    bodies = 2

    def _sum(self, x: Tensor) -> Tensor:
        a, b = x[:, :-1], x[:, 1:]
        return torch.sin(a + b.cos() + b * a.cos()) @ self._of(x)

    def _derivatives(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = self._of(x)
        (a, b), (cos_a, cos_b), (sin_a, sin_b) = ((t[:, :-1], t[:, 1:]) for t in (x, x.cos(), x.sin()))
        inner = a + cos_b + b * cos_a
        by_a, by_b = 1 - b * sin_a, cos_a - sin_b
        sine, cosine = inner.sin(), inner.cos()
        slope = cosine * (a * by_a + b * by_b)
        curvature = -cosine * (b * cos_a + cos_b) - sine * (by_a.square() + by_b.square())
        return sine @ c, slope @ c, curvature @ c


class ThreeBody(Inseparable):
    """Triples of neighbours: S = Σ c_i exp(x_i x_{i+1} x_{i+2}); see `Inseparable`."""

    bodies = 3

    def _sum(self, x: Tensor) -> Tensor:
        return torch.exp(x[:, :-2] * x[:, 1:-1] * x[:, 2:]) @ self._of(x)

    def _derivatives(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        c = self._of(x)
        a, b, d = x[:, :-2], x[:, 1:-1], x[:, 2:]
        product = a * b * d
        e = product.exp()
        squares = (b * d).square() + (a * d).square() + (a * b).square()
        return e @ c, (3 * product * e) @ c, (squares * e) @ c
