"""The common base of MALA and HMC: points with their gradients, the step size that is learned, the finished chains.

During the warm-up each chain learns the step size ε at which it accepts a share a* of its proposals, by dual averaging
(M. D. Hoffman and A. Gelman, JMLR 15, 2014, section 3.2.1):

    H̄ ← (1 − 1/(t+t₀)) H̄ + (a* − a)/(t+t₀),    ln ε = μ − √t/γ · H̄,    ln ε̄ ← t^−κ ln ε + (1 − t^−κ) ln ε̄

with μ = ln(10 ε₀), γ = 0.05, t₀ = 10, κ = 0.75. After it ε̄ is kept: only then is the chain a Markov chain. Draws of
the warm-up are not returned. The average lags behind, so that HMC accepts somewhat more than a*.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aleator.stats import effective_sample_size, split_rhat

LogDensity: TypeAlias = Callable[[Float[Tensor, "chains dim"]], Float[Tensor, " chains"]]


@dataclass(frozen=True)
class Chains:
    """The draws of several chains after their warm-up.

    Attributes:
        draws: of shape (chains, steps, dim).
        acceptance: share of the proposals that each chain accepted.
        divergences: how many proposals of each chain went where the energy is out of all proportion, or not a number.
            They are rejected; more than a few say that a step is too long for some region, which is then under-sampled.
        step_size: ε of each chain.
    """

    draws: Float[Tensor, "chains steps dim"]
    acceptance: Float[Tensor, " chains"]
    divergences: Float[Tensor, " chains"]
    step_size: Float[Tensor, " chains"]

    def split_rhat(self) -> list[float]:
        """Return R̂ of every coordinate, see `aleator.stats.split_rhat`."""
        return [split_rhat(coordinate) for coordinate in self.draws.unbind(2)]

    def effective_sample_size(self) -> list[float]:
        """Return the effective sample size of every coordinate, see `aleator.stats.effective_sample_size`."""
        return [effective_sample_size(coordinate) for coordinate in self.draws.unbind(2)]


@dataclass(frozen=True)
class Point:
    """Where the chains are: x, log p(x) and its gradient."""

    x: Tensor
    log_p: Tensor
    grad: Tensor


def at(x: Tensor, log_density: LogDensity) -> Point:
    """Evaluate log p and its gradient.

    Raises:
        ValueError: if log p is not one number for each chain.
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        log_p = log_density(x)
        if log_p.shape != x.shape[:-1]:
            raise ValueError(
                f"log_density must return one number for each chain, shape {tuple(x.shape[:-1])}, "
                f"got {tuple(log_p.shape)}"
            )
        (grad,) = torch.autograd.grad(log_p.sum(), x)
    return Point(x.detach(), log_p.detach(), grad)


def start(init: Tensor, log_density: LogDensity) -> Point:
    """Evaluate the first point.

    Raises:
        ValueError: if init has another shape or type, or the density is zero or not a number there.
    """
    if init.ndim != 2 or not init.is_floating_point() or not init.numel():
        raise ValueError(f"init must be floats of shape (chains, dim), got {init.dtype} of shape {tuple(init.shape)}")
    point = at(init, log_density)
    fine = point.log_p.isfinite() & point.grad.isfinite().all(-1)
    if not bool(fine.all()):
        raise ValueError(
            f"log_density and its gradient must be finite at init, got log density {float(point.log_p[~fine][0])} "
            f"in chain {int((~fine).nonzero()[0])}"
        )
    return point


def chosen(accept: Bool[Tensor, " chains"], new: Point, old: Point) -> Point:
    """Return the new point of the chains that accept, and the old one of the others."""
    rows = accept.unsqueeze(-1)
    return Point(
        torch.where(rows, new.x, old.x),
        torch.where(accept, new.log_p, old.log_p),
        torch.where(rows, new.grad, old.grad),
    )


Move: TypeAlias = Callable[[Point, Tensor], tuple[Point, Tensor]]
"""From a point and step sizes (chains, 1) to a new point and log of its acceptance, which is nan if it diverged."""


def run(
    point: Point, move: Move, step_size: float, target: float, warmup: int, steps: int, generator: torch.Generator
) -> Chains:
    """Learn the step size, then draw.

    Args:
        point: where the chains begin.
        move: the proposal.
        step_size: ε₀; it stays where there is no warm-up.
        target: a*, the share of proposals to accept.
        warmup: proposals to learn from.
        steps: draws to return.
        generator: for the decisions.
    """
    learned = _DualAveraging(step_size, target, point.log_p)
    draws = point.x.new_empty(point.x.shape[0], steps, point.x.shape[1])
    accepted, divergences = torch.zeros_like(point.log_p), torch.zeros_like(point.log_p)
    for k in range(-warmup, steps):
        size = learned.exploring if k < 0 else learned.settled
        new, log_accept = move(point, size.unsqueeze(-1))
        diverged = log_accept.isnan()
        log_accept = torch.where(diverged, -math.inf, log_accept)
        uniform = torch.rand(log_accept.shape, generator=generator, dtype=log_accept.dtype, device=log_accept.device)
        accept = uniform.log() < log_accept
        point = chosen(accept, new, point)
        if k < 0:
            learned.update(log_accept.exp())
        else:
            draws[:, k] = point.x
            accepted += accept
            divergences += diverged
    return Chains(draws, accepted / max(steps, 1), divergences, learned.settled)


class _DualAveraging:
    def __init__(self, step_size: float, target: float, like: Tensor) -> None:
        self.target = target
        self.centre = math.log(10 * step_size)
        self.log_step = torch.full_like(like, math.log(step_size))
        self.log_average = self.log_step.clone()
        self.error = torch.zeros_like(like)
        self.t = 0

    @property
    def exploring(self) -> Tensor:
        return self.log_step.exp()

    @property
    def settled(self) -> Tensor:
        return self.log_average.exp()

    def update(self, acceptance: Tensor) -> None:
        self.t += 1
        rate = 1 / (self.t + 10)
        self.error = (1 - rate) * self.error + rate * (self.target - acceptance)
        self.log_step = self.centre - math.sqrt(self.t) / 0.05 * self.error
        weight = self.t**-0.75
        self.log_average = weight * self.log_step + (1 - weight) * self.log_average


def check_sampler(step_size: float, target: float, warmup: int) -> None:
    """Check the options that both samplers have.

    Raises:
        ValueError: naming the option.
    """
    if not 0 < step_size < math.inf:
        raise ValueError(f"step_size must be positive and finite, got {step_size}")
    if not 0 < target < 1:
        raise ValueError(f"target_acceptance must be in (0, 1), got {target}")
    if warmup < 0:
        raise ValueError(f"warmup must not be negative, got {warmup}")
