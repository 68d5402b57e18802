"""HMC: follow Hamiltonian dynamics with a random momentum, and accept or reject where it ends.

    U = −log p,  H(q, p) = U(q) + ‖p‖²/2
    leapfrog, L times:   p ← p − (ε/2) ∇U(q),   q ← q + ε p,   p ← p − (ε/2) ∇U(q)
    log acceptance = min(0, H(q, p) − H(q', p'))

Leapfrog steps preserve volume and are reversible, so the density is exactly the one asked for. ε is drawn anew within
10 % for every chain and trajectory, because a trajectory of one length can come back to where it began (R. M. Neal,
Handbook of Markov Chain Monte Carlo, 2011, section 5.4.2.2). A trajectory whose energy grows by more than 1000 has
diverged.

S. Duane, A. D. Kennedy, B. J. Pendleton and D. Roweth, Physics Letters B 195, 1987.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde.chains import Chains, LogDensity, Point, at, check_sampler, run, start

_DIVERGED = 1000
_JITTER = 0.1


def leapfrog(
    q: Float[Tensor, "*shape"],
    p: Float[Tensor, "*shape"],
    grad: Callable[[Tensor], Tensor],
    eps: float | Tensor,
    steps: int,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return position and momentum after ``steps`` leapfrog steps.

    Args:
        q: position.
        p: momentum.
        grad: ∇U, the gradient of minus the log density.
        eps: ε, a number or a tensor that broadcasts with q.
        steps: L, at least 1.

    Raises:
        ValueError: if there is no step.
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    p = p - eps / 2 * grad(q)
    for _ in range(steps - 1):
        q = q + eps * p
        p = p - eps * grad(q)
    q = q + eps * p
    return q, p - eps / 2 * grad(q)


@dataclass(frozen=True)
class HMC:
    """Hamiltonian Monte Carlo with a fixed number of leapfrog steps, on several chains at once.

    Args:
        step_size: ε, where the warm-up starts; it stays there where ``warmup`` is 0.
        leapfrog_steps: L, at least 1. Each is one gradient of the whole density.
        warmup: trajectories from which each chain learns its step size; their draws are not returned.
        target_acceptance: share of trajectories that the warm-up aims at, in (0, 1).

    Raises:
        ValueError: if an option is out of range.
    """

    step_size: float = 0.1
    leapfrog_steps: int = 10
    warmup: int = 500
    target_acceptance: float = 0.8

    def __post_init__(self) -> None:
        check_sampler(self.step_size, self.target_acceptance, self.warmup)
        if self.leapfrog_steps < 1:
            raise ValueError(f"leapfrog_steps must be at least 1, got {self.leapfrog_steps}")

    def sample(
        self, log_density: LogDensity, init: Float[Tensor, "chains dim"], steps: int, generator: torch.Generator
    ) -> Chains:
        """Draw from a density. Arguments and errors as for `MALA.sample`."""
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")

        def move(point: Point, size: Tensor) -> tuple[Point, Tensor]:
            x = point.x
            p = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
            jitter = torch.rand(size.shape, generator=generator, dtype=x.dtype, device=x.device)
            eps = size * (1 + _JITTER * (2 * jitter - 1))
            new, end = self._trajectory(point, p, eps, log_density)
            gained = new.log_p - point.log_p + (p.square() - end.square()).sum(-1) / 2
            return new, torch.where(gained < -_DIVERGED, torch.nan, gained.clamp(max=0))

        point = start(init, log_density)
        return run(point, move, self.step_size, self.target_acceptance, self.warmup, steps, generator)

    def _trajectory(self, point: Point, p: Tensor, eps: Tensor, log_density: LogDensity) -> tuple[Point, Tensor]:
        """Return the end of a trajectory; gradients at its two ends are computed once."""
        known = [point]

        def grad(q: Tensor) -> Tensor:
            if q is not point.x:
                known.append(at(q, log_density))
            return -known[-1].grad

        _, p = leapfrog(point.x, p, grad, eps, self.leapfrog_steps)
        return known[-1], p
