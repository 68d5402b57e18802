"""MALA: a Langevin step is a proposal, which is accepted or rejected so that the density is exactly the one asked for.

    x' = x + h ∇log p(x) + √(2h) ξ
    log acceptance = min(0, log p(x') − log p(x) + log q(x|x') − log q(x'|x))
    log q(y|x) = −‖y − x − h∇log p(x)‖²/(4h)

It needs the whole log density at every step: for small problems. G. O. Roberts and R. L. Tweedie, Bernoulli 2, 1996;
the best share of accepted proposals is 0.574 (G. O. Roberts and J. S. Rosenthal, JRSS B 60, 1998).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.sde.chains import Chains, LogDensity, Point, at, check_sampler, run, start


def mala_proposal(
    x: Float[Tensor, "chains dim"], log_density: LogDensity, step: float, noise: Float[Tensor, "chains dim"]
) -> tuple[Float[Tensor, "chains dim"], Float[Tensor, " chains"]]:
    """Propose one step for every chain.

    Args:
        x: where the chains are.
        log_density: log p up to a constant, one number for each chain.
        step: h.
        noise: ξ, standard normal.

    Returns:
        The proposals, and the logarithm of the probability with which each is to be accepted.
    """
    new, log_accept = _propose(at(x, log_density), log_density, torch.as_tensor(step, dtype=x.dtype), noise)
    return new.x, log_accept


@dataclass(frozen=True)
class MALA:
    """The Metropolis-adjusted Langevin algorithm, on several chains at once.

    Args:
        step_size: h, where the warm-up starts; it stays there where ``warmup`` is 0.
        warmup: proposals from which each chain learns its step size; their draws are not returned.
        target_acceptance: share of proposals that the warm-up aims at, in (0, 1).

    Raises:
        ValueError: if an option is out of range.
    """

    step_size: float = 0.1
    warmup: int = 500
    target_acceptance: float = 0.574

    def __post_init__(self) -> None:
        check_sampler(self.step_size, self.target_acceptance, self.warmup)

    def sample(
        self, log_density: LogDensity, init: Float[Tensor, "chains dim"], steps: int, generator: torch.Generator
    ) -> Chains:
        """Draw from a density.

        Args:
            log_density: log p up to a constant, differentiable, from (chains, dim) to (chains,). Chains must not see
                each other.
            init: where the chains begin, best scattered more widely than the density is. Their type is the type of all
                numbers: float64 where log p is large.
            steps: draws of each chain after the warm-up, at least 1.
            generator: for proposals and decisions, on the device of ``init``.

        Raises:
            ValueError: if log p is not finite at ``init`` or has another shape, or there are no steps.
        """
        if steps < 1:
            raise ValueError(f"steps must be at least 1, got {steps}")

        def move(point: Point, h: Tensor) -> tuple[Point, Tensor]:
            x = point.x
            noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
            return _propose(point, log_density, h, noise)

        point = start(init, log_density)
        return run(point, move, self.step_size, self.target_acceptance, self.warmup, steps, generator)


def _propose(point: Point, log_density: LogDensity, h: Tensor, noise: Tensor) -> tuple[Point, Tensor]:
    new = at(point.x + h * point.grad + (2 * h).sqrt() * noise, log_density)
    back = point.x - new.x - h * new.grad
    log_q_forward = -noise.square().sum(-1) / 2
    log_q_back = -(back.square() / (4 * h)).sum(-1)
    return new, (new.log_p - point.log_p + log_q_back - log_q_forward).clamp(max=0)
