"""Preconditioned SGLD: Langevin steps whose size follows each coordinate's gradients, as RMSprop's do.

    V ← aV + (1−a) ḡ²,    G = 1/(ε + √V)
    x ← x − hG ∇Û(x) + √(2hTG) ξ

with ḡ the gradient of the mean loss, without weight decay. The exact diffusion has one more drift term, Γ = ∂G/∂x. It
is left out, as the authors advise. That biases the sampler, in addition to the bias of `SGLD`, as far as G follows x:
little where V is mostly the noise of mini-batches, much where the gradients are exact.

C. Li, C. Chen, D. Carlson and L. Carin, "Preconditioned Stochastic Gradient Langevin Dynamics for Deep Neural
Networks", AAAI 2016, arXiv 1512.07666, Algorithm 1.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.optim.optimizer import ParamsT

from aleator.sde.gradient_sampler import GradientSampler, Part


class PreconditionedSGLD(GradientSampler):
    """SGLD with RMSprop's diagonal preconditioner.

    Args:
        params: parameters, named parameters, or groups of them; float32 or float64.
        lr: h. A coordinate's step size in units of U is h·G.
        n_data: N, the number of training examples where the loss is a mean; 1 where the loss is U itself.
        temperature: T. 1 samples the posterior.
        alpha: a, the decay of the running mean of squares, in [0, 1).
        eps: ε, positive.
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
        alpha: float = 0.99,
        eps: float = 1e-5,
        weight_decay: float = 0.0,
        generator: torch.Generator,
    ) -> None:
        defaults = {
            "lr": lr,
            "n_data": n_data,
            "temperature": temperature,
            "alpha": alpha,
            "eps": eps,
            "weight_decay": weight_decay,
        }
        super().__init__(params, defaults, generator)

    def _check(self, group: dict[str, Any]) -> None:
        super()._check(group)
        if not 0 <= group["alpha"] < 1:
            raise ValueError(f"alpha must be in [0, 1), got {group['alpha']}")
        if not group["eps"] > 0:
            raise ValueError(f"eps must be positive, got {group['eps']}")

    def _move(self, part: Part) -> None:
        lr, alpha, eps = part.group["lr"], part.group["alpha"], part.group["eps"]
        averages = self._kept(part, "square_avg")
        torch._foreach_mul_(averages, alpha)
        torch._foreach_addcmul_(averages, part.grads, part.grads, 1 - alpha)
        sizes = torch._foreach_sqrt(averages)
        torch._foreach_add_(sizes, eps)
        torch._foreach_reciprocal_(sizes)
        torch._foreach_addcmul_(part.values, sizes, part.slopes, -lr * part.group["n_data"])
        variance = 2 * lr * part.group["temperature"]
        if variance > 0:
            torch._foreach_sqrt_(sizes)
            torch._foreach_addcmul_(part.values, sizes, self._noise(part.values), variance**0.5)
