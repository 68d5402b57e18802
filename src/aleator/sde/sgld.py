"""SGLD: gradient descent with as much noise as makes it a sampler of the posterior.

    x ← x − h ∇Û(x) + √(2hT) ξ,      ξ ~ N(0, I)

with step size h (``lr``), temperature T and ∇Û as in `gradient_sampler`. The step is not corrected, so h > 0 leaves a
bias: on N(0, s²) with exact gradients the stationary variance at T = 1 is s²/(1 − h/(2s²)); with gradients of variance
ν it is

    (2h + h²ν)/(1 − (1 − h/s²)²).

``noise_correction`` draws noise of variance max(2hT − h²ν̂, 0) instead and so takes the ν out, as far as ν̂ is right:
half the mean square of the difference of successive gradients, a running mean over about 100 steps for each coordinate.
It overstates ν by the factor 1 + h/s², and needs batches that are drawn anew at every step.

M. Welling and Y. W. Teh, "Bayesian Learning via Stochastic Gradient Langevin Dynamics", ICML 2011.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.optim.optimizer import ParamsT

from aleator.sde.gradient_sampler import GradientSampler, Part

_MEMORY = 0.99


class SGLD(GradientSampler):
    """Stochastic gradient Langevin dynamics; with temperature 0 it is SGD with the step size N·lr.

    Args:
        params: parameters, named parameters, or groups of them; float32 or float64.
        lr: h, the step size in units of U: N times smaller than SGD's on the mean loss.
        n_data: N, the number of training examples where the loss is a mean; 1 where the loss is U itself.
        temperature: T. 1 samples the posterior; below 1 it is colder than the posterior.
        weight_decay: λ, added to the gradient of the mean loss: a Gaussian prior of variance 1/(Nλ).
        noise_correction: draw less noise where gradients are noisy themselves. Two more tensors for each parameter.
        generator: for the noise, on the device of the parameters.

    Raises:
        ValueError: if an option is out of range, a parameter is of a shorter type, or the generator elsewhere.

    Example:
        >>> model = torch.nn.Linear(3, 1)
        >>> chain = SGLD(model.parameters(), lr=1e-4, n_data=1000, generator=torch.Generator().manual_seed(0))
        >>> model(torch.ones(8, 3)).square().mean().backward()
        >>> chain.step()
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float,
        n_data: float,
        temperature: float = 1.0,
        *,
        weight_decay: float = 0.0,
        noise_correction: bool = False,
        generator: torch.Generator,
    ) -> None:
        defaults = {
            "lr": lr,
            "n_data": n_data,
            "temperature": temperature,
            "weight_decay": weight_decay,
            "noise_correction": noise_correction,
        }
        super().__init__(params, defaults, generator)

    def _move(self, part: Part) -> None:
        lr = part.group["lr"]
        torch._foreach_add_(part.values, part.slopes, alpha=-lr * part.group["n_data"])
        variance = 2 * lr * part.group["temperature"]
        corrected = part.group["noise_correction"] and part.group["temperature"] > 0
        own = self._gradient_variances(part) if corrected else None
        if variance == 0:
            return
        noise = self._noise(part.values)
        if own is None:
            torch._foreach_mul_(noise, variance**0.5)
        else:
            torch._foreach_mul_(noise, [(variance - lr * lr * v).clamp_(min=0).sqrt_() for v in own])
        torch._foreach_add_(part.values, noise)

    def _gradient_variances(self, part: Part) -> list[Tensor]:
        """Return ν̂ of ∇Û; it is 0 in the first step, which has nothing to compare with."""
        previous, means = self._kept(part, "previous"), self._kept(part, "half_square")
        variances = []
        for parameter, slope, before, mean in zip(part.params, part.slopes, previous, means, strict=True):
            steps = self.state[parameter].get("step", -1) + 1
            self.state[parameter]["step"] = steps
            if steps > 0:
                mean.lerp_((slope - before).square_().div_(2), 1 - _MEMORY)
            before.copy_(slope)
            variances.append(mean * (part.group["n_data"] ** 2 / (1 - _MEMORY ** max(steps, 1))))
        return variances
