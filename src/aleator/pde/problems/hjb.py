"""Hamilton–Jacobi–Bellman equations of linear-quadratic control, which run backward from a terminal cost g.

    u_t + Δu − μ |∇u|² = 0,  u(x, T) = g(x)        u = −(1/μ) log E exp(−μ g(x + √(2 (T − t)) Z)),  Z ~ N(0, I)

    log          g = log((1 + |x|²)/2)
    rosenbrock   g = log(1 + Σ_{i<d} [a_i (x_i − x_{i+1})² + b_i x_{i+1}²]),  a_i, b_i ~ U(0.5, 1.5)
    linear       u_t + Δu − (1/d) Σ |u_i|^c + 2 = 0 with g = Σ x_i, whose solution is Σ x_i + T − t

Of *log* the expectation is one integral in one dimension: with s = 2 (T − t) and Γ(μ) y^{−μ} = ∫ a^{μ−1} e^{−ay} da,

    E (2/(1 + |y|²))^μ = 2^μ/Γ(μ) ∫ a^{μ−1} e^{−a} (1 + 2as)^{−d/2} exp(−|x|² a/(1 + 2as)) da.

The integrand sits at a ≲ 1/(ds + |x|²); on a uniform grid of log a, summed as logarithms, the trapezoidal rule has all
digits in any dimension. The trivial predictor puts E|y|² = |x|² + 2d (T − t) into g. Z. Hu et al., arXiv 2307.12306,
section 5.3.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from aleator.pde.ansatz import TimeFactor
from aleator.pde.domains import Gaussian
from aleator.pde.equation import Equation
from aleator.pde.problems.problem import Problem
from aleator.random import Streams

_NODES = 1000
_AT_A_TIME = 1000  # points of the quadrature
_TAIL = 40.0  # e^-40 is below the last digit of float64


class _Backward(Problem):
    """An equation that runs backward from values at T, which are built in: (T − t)/T · net + g."""

    def _place(self, d: int, horizon: float) -> None:
        self.domain = Gaussian(d, (0.0, horizon))
        self.d, self.horizon = d, horizon
        self.factor = TimeFactor(d, horizon, -horizon)


class HJBLog(_Backward):
    """Terminal cost ``log((1 + |x|²)/2)``.

    Args:
        d: dimensions of space.
        mu: μ.
        horizon: T.

    Raises:
        ValueError: if μ is not from 0.1 to 1000, where the quadrature has been seen to have ten digits.
    """

    trivial_name = "log((1 + |x|² + 2d (T - t))/2)"

    def __init__(self, d: int, mu: float = 1.0, horizon: float = 1.0) -> None:
        if not 0.1 <= mu <= 1000:
            raise ValueError(f"mu must be from 0.1 to 1000, got {mu}")
        self._place(d, horizon)
        self.arguments = {"d": d, "mu": mu, "horizon": horizon}
        self.mu = mu
        self.offset = LogCost(d)
        self.equation = Equation(self._residual)

    def exact(self, *points: Tensor, nodes: int = _NODES) -> Float[Tensor, " n"]:
        """Return the solution by quadrature, computed in float64, with ``nodes`` nodes for each point."""
        x, t = points
        r2, s = x.double().square().sum(1), 2 * (self.horizon - t.double()).clamp(min=0)
        pieces = zip(torch.split(r2, _AT_A_TIME), torch.split(s, _AT_A_TIME), strict=True)
        return torch.cat([self._by_quadrature(*piece, nodes) for piece in pieces]).to(x.dtype)

    def trivial_parts(self, points: Tensor) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return g with the mean of |y|² in the place of |y|², and nothing to fit."""
        x, t = self.split(points)
        return torch.log((1 + x.square().sum(1) + 2 * self.d * (self.horizon - t)) / 2), torch.zeros_like(t)

    def _by_quadrature(self, r2: Tensor, s: Tensor, nodes: int) -> Tensor:
        # From where the integrand has begun, a^μ = e^-40 of its peak's, to where e^-a has ended it.
        with torch.no_grad():
            low = -torch.log(1 + self.d * s + r2) - _TAIL / self.mu
            step = (math.log(_TAIL) + math.log1p(self.mu) - low) / (nodes - 1)
            log_a = low.unsqueeze(1) + step.unsqueeze(1) * torch.arange(nodes, dtype=low.dtype, device=low.device)
        a = log_a.exp()
        spread = 2 * a * s.unsqueeze(1)
        terms = self.mu * log_a - a - 0.5 * self.d * torch.log1p(spread) - r2.unsqueeze(1) * a / (1 + spread)
        log_mean = torch.logsumexp(terms, 1) + step.log() + self.mu * math.log(2) - math.lgamma(self.mu)
        return -log_mean / self.mu

    def _residual(self, *, lap: Tensor, grad: Tensor, u_t: Tensor) -> Tensor:
        return u_t + lap - self.mu * grad.square().sum(-1)


class LogCost:
    """log((1 + |x|²)/2), of the coordinates of space."""

    def __init__(self, d: int) -> None:
        self.d = d

    def __call__(self, x: Any) -> Any:
        """Return the values, (n,)."""
        return torch.log((x[:, : self.d].square().sum(1) + 1) * 0.5)


class HJBRosenbrock(_Backward):
    """The logarithm of a Rosenbrock-like function as terminal cost, anisotropic by its coefficients.

    Args:
        d: dimensions of space, at least 2.
        mu: μ.
        horizon: T.
        seed: of the coefficients.
        samples: of the Monte Carlo mean in `exact`, an even number since they come in pairs.

    Raises:
        ValueError: if d is below 2, μ is not positive and finite, or samples is no positive even number.
    """

    trivial_name = "g with the mean of its sum"

    def __init__(self, d: int, mu: float = 1.0, horizon: float = 1.0, seed: int = 0, samples: int = 10_000) -> None:
        if d < 2:
            raise ValueError(f"d must be at least 2, got {d}")
        if not 0 < mu < math.inf:
            raise ValueError(f"mu must be positive and finite, got {mu}")
        if samples < 2 or samples % 2:
            raise ValueError(f"samples must be a positive even number, got {samples}")
        self._place(d, horizon)
        self.arguments = {"d": d, "mu": mu, "horizon": horizon, "seed": seed, "samples": samples}
        self.mu, self.samples, self.seed = mu, samples, seed
        drawn = torch.from_numpy(np.random.RandomState(seed % 2**32).uniform(0.5, 1.5, (2, d - 1)))
        self.a, self.b = drawn[0], drawn[1]
        self.offset = self._cost
        self.equation = Equation(self._residual)

    def exact(self, *points: Tensor) -> Float[Tensor, " n"]:
        """Return the solution by Monte Carlo, in float64, with the same draws for every point.

        The draws come in pairs ±Z. The error is about the deviation of exp(−μ g), divided by its mean and √samples.
        """
        x, t = (part.double() for part in points)
        generator = Streams(self.seed).generator("rosenbrock")
        half = torch.randn(self.samples // 2, self.d, generator=generator, dtype=torch.float64).to(x.device)
        z = torch.cat([half, -half])
        s = (2 * (self.horizon - t)).clamp(min=0).sqrt()
        found = []
        for point, scale in zip(x, s, strict=True):
            costs = self._cost(point + scale * z)
            found.append(-(torch.logsumexp(-self.mu * costs, 0) - math.log(len(z))) / self.mu)
        return torch.stack(found).to(points[0].dtype)

    def trivial_parts(self, points: Tensor) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
        """Return log(1 + the mean of the quadratic form), and nothing to fit."""
        x, t = self.split(points)
        # The mean of a (y_i − y_j)² + b y_j² is 2 a s + b s above its value at x, s = 2 (T − t).
        spread = float((2 * self.a + self.b).sum()) * 2 * (self.horizon - t)
        return torch.log1p(self._form(x) + spread), torch.zeros_like(t)

    def _form(self, x: Any) -> Any:
        first, second = x[:, : self.d - 1], x[:, 1 : self.d]
        # By name, since a Taylor propagation has a type and a device and is no tensor.
        a, b = (c.to(device=x.device, dtype=x.dtype) for c in (self.a, self.b))
        return ((first - second).square() * a + second.square() * b).sum(1)

    def _cost(self, x: Any) -> Any:
        return torch.log(self._form(x) + 1)

    def _residual(self, *, lap: Tensor, grad: Tensor, u_t: Tensor) -> Tensor:
        return u_t + lap - self.mu * grad.square().sum(-1)


class HJBLinear(_Backward):
    """``u_t + Δu − (1/d) Σ |u_i|^c + 2 = 0`` with u(x, T) = Σ x_i; its solution is Σ x_i + T − t.

    Args:
        d: dimensions of space.
        power: c, at least 1.
        horizon: T.

    Raises:
        ValueError: if c is below 1.
    """

    trivial_name = "g + k (T - t)/T with the best k, which is the solution"

    def __init__(self, d: int, power: float = 1.75, horizon: float = 1.0) -> None:
        if not 1 <= power < math.inf:
            raise ValueError(f"power must be at least 1 and finite, got {power}")
        self._place(d, horizon)
        self.arguments = {"d": d, "power": power, "horizon": horizon}
        self.power = power
        self.offset = self._sum
        self.equation = Equation(self._residual)

    def exact(self, *points: Tensor) -> Float[Tensor, " n"]:
        """Return Σ x_i + T − t."""
        x, t = points
        return x.sum(1) + (self.horizon - t)

    def _sum(self, x: Any) -> Any:
        return x[:, : self.d].sum(1)

    def _residual(self, *, lap: Tensor, grad: Tensor, u_t: Tensor) -> Tensor:
        return u_t + lap - grad.abs().pow(self.power).mean(-1) + 2
