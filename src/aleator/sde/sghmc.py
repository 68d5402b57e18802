"""SGHMC: stochastic gradients with momentum, friction, and the noise that balances the friction.

    v ← (1−α) v − η ∇Û(x) + N(0, 2αηT),      x ← x + v

The friction α is 1 − the momentum of SGD, η = ``lr``. In equilibrium v has variance ηT: the kinetic temperature
mean(v²)/η says whether the chain is as warm as it should be. It is warmer where the gradients' own noise, which is not
taken off here, is not small beside the noise that is added: η²ν beside 2αηT.

T. Chen, E. Fox and C. Guestrin, "Stochastic Gradient Hamiltonian Monte Carlo", ICML 2014, arXiv 1402.4102, equation 15
with β̂ = 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from aleator.sde.gradient_sampler import GradientSampler, Part, local


class SGHMC(GradientSampler):
    """Stochastic gradient Hamiltonian Monte Carlo; with temperature 0 it is SGD with momentum 1 − friction.

    Args:
        params: parameters, named parameters, or groups of them; float32 or float64.
        lr: η, in units of U; of the order of the square of a leapfrog step.
        n_data: N, the number of training examples where the loss is a mean; 1 where the loss is U itself.
        temperature: T. 1 samples the posterior.
        friction: α in (0, 1]; with 1 there is no memory.
        weight_decay: λ, a Gaussian prior of variance 1/(Nλ).
        generator: for the noise, on the device of the parameters.

    Raises:
        ValueError: if an option is out of range, a parameter is of a shorter type, or the generator elsewhere.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        n_data: float,
        temperature: float = 1.0,
        *,
        friction: float = 0.1,
        weight_decay: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        defaults = {
            "lr": lr,
            "n_data": n_data,
            "temperature": temperature,
            "friction": friction,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults, generator)

    def kinetic_temperature(self) -> Tensor:
        """Return the mean of v²/η over this process's coordinates, T in equilibrium; 0 before the first step."""
        squares = [
            local(self.state[p]["velocity"]).double().square().flatten() / group["lr"]
            for group in self.param_groups
            for p in group["params"]
            if p in self.state and group["lr"] > 0
        ]
        return torch.cat(squares).mean() if squares else torch.zeros((), dtype=torch.float64)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not 0 < group["friction"] <= 1:
            raise ValueError(f"friction must be in (0, 1], got {group['friction']}")

    def _move(self, part: Part) -> None:
        lr, friction = part.group["lr"], part.group["friction"]
        velocities = self._kept(part, "velocity")
        torch._foreach_mul_(velocities, 1 - friction)
        torch._foreach_add_(velocities, part.slopes, alpha=-lr * part.group["n_data"])
        size = (2 * friction * lr * part.group["temperature"]) ** 0.5
        if size > 0:
            torch._foreach_add_(velocities, self._noise(part.values), alpha=size)
        torch._foreach_add_(part.values, velocities)
