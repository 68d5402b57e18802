"""Forward processes that turn data into noise, in closed form.

    dx = f(x, t) dt + g(t) dw,    x_t | x_0 ~ N(m(t) x_0, s(t)²),    t in [0, 1]

    process    f           g²                 m            s
    VP         −½ β x      β                  exp(−I/2)    √(1 − exp(−I))
    VE         0           2 σ² ln(σ₁/σ₀)     1            σ
    sub-VP     −½ β x      β (1 − exp(−2I))   exp(−I/2)    1 − exp(−I)

with β(t) = β₀ + t (β₁ − β₀), I(t) = ∫₀ᵗ β, σ(t) = σ₀ (σ₁/σ₀)ᵗ. The deviation of VE is σ₀ and not 0 at t = 0, as it was
published: the process is thought to start a little earlier. No process forgets its data by t = 1; how far a sampler
that starts from the prior begins from where it should is `SDE.prior_gap`.

Y. Song et al., "Score-Based Generative Modeling through Stochastic Differential Equations", ICLR 2021, section 3.4; the
constants are from J. Jo, S. Lee, S. J. Hwang, "Score-based Generative Modeling of Graphs via the System of Stochastic
Differential Equations", ICML 2022, arXiv 2202.02514.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor


def over_trailing(values: Float[Tensor, "*batch"], x: Tensor) -> Tensor:
    """Return ``values`` with as many dimensions of length 1 behind as it takes to broadcast over ``x``."""
    return values.reshape(values.shape + (1,) * (x.ndim - values.ndim))


class SDE(ABC):
    """A process whose marginals are known; times are tensors, of shape [batch] or none, in [0, 1].

    A time of shape [batch] broadcasts over the trailing dimensions of a state of shape [batch, ...].
    """

    prior_std: float = 1.0
    """Deviation of the distribution N(0, prior_std²) that samplers start from."""

    @abstractmethod
    def marginal(self, t: Float[Tensor, "*batch"]) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return (m, s), the factor of x_0 in the mean of x_t and the deviation of x_t given x_0."""

    @abstractmethod
    def drift(self, x: Float[Tensor, "*dims"], t: Float[Tensor, "*batch"]) -> Float[Tensor, "*dims"]:
        """Return f(x, t), of the shape of x."""

    @abstractmethod
    def diffusion(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return g(t)."""

    def discretize(
        self, x: Float[Tensor, "*dims"], t: Float[Tensor, "*batch"], steps: int
    ) -> tuple[Float[Tensor, "*dims"], Float[Tensor, "*batch"]]:
        """Return (f, G) of the chain x' = x + f + G z in ``steps`` steps that the ancestral predictor reverses.

        Where the process has no chain of its own, that is a step of Euler: f/N and g/√N.

        Raises:
            ValueError: if the chain does not exist for so few steps.
        """
        return self.drift(x, t) / steps, self.diffusion(t) / math.sqrt(steps)

    def step_damping(self, t: Float[Tensor, "*batch"], steps: int) -> Float[Tensor, "*batch"]:
        """Return α(t), which multiplies a Langevin corrector's step size: 1 unless the process has a β."""
        return torch.ones_like(t)

    def reverse_transition(
        self, start: Float[Tensor, "*batch"], end: Float[Tensor, "*batch"], *, official: bool = False
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return (a, d) such that a x + d z solves the reversed process without its score, from ``start`` to ``end``.

        Args:
            start: t, where x is.
            end: t' ≤ t.
            official: take d from the authors' code where that differs from the solution.

        Raises:
            NotImplementedError: if the process has none in closed form.
        """
        raise NotImplementedError(f"S4 needs a process with a reverse transition, VPSDE or VESDE, got {self}")

    def prior_gap(self, data_rms: float = 1.0) -> float:
        """Return how far the prior is from the marginal at t = 1, in units of x.

        With r the root mean square of a coordinate of the data, this is √(m² r² + (s − prior_std)²) at t = 1: the
        largest Wasserstein-2 distance per coordinate that data with this r can have. It is attained where all data are
        one point, and holds as a bound for any other. What a sampler starts with wrong, no number of steps repairs.

        Raises:
            ValueError: if ``data_rms`` is negative or not finite.
        """
        if not 0 <= data_rms < math.inf:
            raise ValueError(f"data_rms must not be negative and must be finite, got {data_rms}")
        mean, std = (float(value) for value in self.marginal(torch.ones((), dtype=torch.float64)))
        return math.hypot(mean * data_rms, std - self.prior_std)


@dataclass(frozen=True)
class _LinearBeta(SDE):
    """What VP and sub-VP share: the drift −½ β(t) x with β linear in t."""

    beta_min: float = 0.1
    """β₀, at least 0."""
    beta_max: float = 1.0
    """β₁, at least β₀ and positive."""

    def __post_init__(self) -> None:
        if not (0 <= self.beta_min <= self.beta_max < math.inf and self.beta_max > 0):
            raise ValueError(
                "beta_min and beta_max must be finite with 0 <= beta_min <= beta_max and 0 < beta_max, "
                f"got {self.beta_min} and {self.beta_max}"
            )

    def beta(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return β(t)."""
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def integral(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return I(t) = ∫₀ᵗ β."""
        return t * (self.beta_min + t * ((self.beta_max - self.beta_min) / 2))

    def drift(self, x: Float[Tensor, "*dims"], t: Float[Tensor, "*batch"]) -> Float[Tensor, "*dims"]:
        """Return −½ β(t) x."""
        return over_trailing(-0.5 * self.beta(t), x) * x

    def chain_beta(self, t: Float[Tensor, "*batch"], steps: int) -> Float[Tensor, "*batch"]:
        """Return b_k of the chain of N steps, k = ⌊t (N − 1)⌋; the b_k run evenly from β₀/N to β₁/N.

        Raises:
            ValueError: if β₁/N is above 1: 1 − b_k would turn negative.
        """
        if self.beta_max > steps:
            raise ValueError(f"steps must be at least beta_max = {self.beta_max:g} for b_k <= 1, got {steps}")
        k = (t * (steps - 1)).floor()
        return self.beta_min / steps + k * ((self.beta_max - self.beta_min) / (steps * max(steps - 1, 1)))

    def step_damping(self, t: Float[Tensor, "*batch"], steps: int) -> Float[Tensor, "*batch"]:
        """Return α = 1 − b_k, see `chain_beta`."""
        return 1 - self.chain_beta(t, steps)


@dataclass(frozen=True)
class VPSDE(_LinearBeta):
    """The variance-preserving process: data of unit variance keep it.

    Args:
        beta_min: β₀ at t = 0, at least 0.
        beta_max: β₁ at t = 1, at least β₀ and positive.

    Raises:
        ValueError: if a value is out of range.
    """

    def marginal(self, t: Float[Tensor, "*batch"]) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return exp(−I/2) and √(1 − exp(−I))."""
        integral = self.integral(t)
        return torch.exp(-0.5 * integral), torch.sqrt(-torch.expm1(-integral))

    def diffusion(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return √β(t)."""
        return torch.sqrt(self.beta(t))

    def discretize(
        self, x: Float[Tensor, "*dims"], t: Float[Tensor, "*batch"], steps: int
    ) -> tuple[Float[Tensor, "*dims"], Float[Tensor, "*batch"]]:
        """Return ((√(1 − b_k) − 1) x, √b_k), the chain of denoising diffusion models.

        Raises:
            ValueError: if β₁/N is above 1.
        """
        beta = self.chain_beta(t, steps)
        return over_trailing(torch.sqrt(1 - beta) - 1, x) * x, torch.sqrt(beta)

    def reverse_transition(
        self, start: Float[Tensor, "*batch"], end: Float[Tensor, "*batch"], *, official: bool = False
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return exp(J/2) and √(exp(J) − 1), J = ∫ β from ``end`` to ``start``.

        The official code has √(1 − exp(−J)), the deviation of the *forward* process over the same interval.
        """
        integral = self.integral(start) - self.integral(end)
        variance = -torch.expm1(-integral) if official else torch.expm1(integral)
        return torch.exp(0.5 * integral), torch.sqrt(variance)


@dataclass(frozen=True)
class SubVPSDE(_LinearBeta):
    """The sub-VP process: the mean of VP and a smaller variance at every time.

    Args:
        beta_min: β₀ at t = 0, at least 0.
        beta_max: β₁ at t = 1, at least β₀ and positive.

    Raises:
        ValueError: if a value is out of range.
    """

    def marginal(self, t: Float[Tensor, "*batch"]) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return exp(−I/2) and 1 − exp(−I)."""
        integral = self.integral(t)
        return torch.exp(-0.5 * integral), -torch.expm1(-integral)

    def diffusion(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return √(β(t) (1 − exp(−2 I)))."""
        return torch.sqrt(self.beta(t) * -torch.expm1(-2 * self.integral(t)))


@dataclass(frozen=True)
class VESDE(SDE):
    """The variance-exploding process: noise of growing deviation is added.

    Args:
        sigma_min: σ₀ at t = 0, positive.
        sigma_max: σ₁ at t = 1, above σ₀.
        official_prior: start samplers from unit deviation whatever σ₁ is, as the GDSS authors' code does. Every
            published configuration has σ₁ = 1, where the two agree.

    Raises:
        ValueError: if a value is out of range.
    """

    sigma_min: float = 0.1
    sigma_max: float = 1.0
    official_prior: bool = False

    def __post_init__(self) -> None:
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                "sigma_min and sigma_max must be finite with 0 < sigma_min < sigma_max, "
                f"got {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def prior_std(self) -> float:  # type: ignore[override]
        """σ₁, or 1 for the official prior."""
        return 1.0 if self.official_prior else self.sigma_max

    def sigma(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return σ(t) = σ₀ (σ₁/σ₀)ᵗ."""
        return self.sigma_min * torch.exp(t * math.log(self.sigma_max / self.sigma_min))

    def marginal(self, t: Float[Tensor, "*batch"]) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return 1 and σ(t)."""
        return torch.ones_like(t), self.sigma(t)

    def drift(self, x: Float[Tensor, "*dims"], t: Float[Tensor, "*batch"]) -> Float[Tensor, "*dims"]:
        """Return 0."""
        return torch.zeros_like(x)

    def diffusion(self, t: Float[Tensor, "*batch"]) -> Float[Tensor, "*batch"]:
        """Return σ(t) √(2 ln(σ₁/σ₀))."""
        return self.sigma(t) * math.sqrt(2 * math.log(self.sigma_max / self.sigma_min))

    def discretize(
        self, x: Float[Tensor, "*dims"], t: Float[Tensor, "*batch"], steps: int
    ) -> tuple[Float[Tensor, "*dims"], Float[Tensor, "*batch"]]:
        """Return (0, √(σ_k² − σ_{k−1}²)), k = ⌊t (N − 1)⌋, σ_k evenly spaced in the logarithm, σ_{−1} = 0."""
        k = (t * (steps - 1)).floor()
        spacing = 1 / max(steps - 1, 1)
        before = torch.where(k > 0, self.sigma((k - 1) * spacing), 0)
        return torch.zeros_like(x), torch.sqrt(self.sigma(k * spacing).square() - before.square())

    def reverse_transition(
        self, start: Float[Tensor, "*batch"], end: Float[Tensor, "*batch"], *, official: bool = False
    ) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
        """Return 1 and √(σ(start)² − σ(end)²); here the official code agrees."""
        return torch.ones_like(start), torch.sqrt(self.sigma(start).square() - self.sigma(end).square())
