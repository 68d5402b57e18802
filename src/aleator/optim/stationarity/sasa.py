"""SASA: a statistical test of whether SGD with momentum is stationary, which lowers the learning rate when it is.

    d_t = (1 − β) g_t + β d_{t−1},  x_{t+1} = x_t − γ d_t:    stationary ⇒ E⟨x, g⟩ = (γ/2)·(1 + β)/(1 − β)·E‖d‖²

Each step gives one sample ⟨x_t, g_t⟩ − (γ/2)(1 + β)/(1 − β)‖d_t‖², all from one step, with the x before it. Its mean is
zero once the iterates hover. Samples depend on each other, so the interval of their mean comes from batch means: the
last half of the samples is cut into 20 equal batches, whose means have a t-interval with 19 degrees of freedom. Where
it holds zero, equality is not rejected, and the rate falls.

torch's momentum is b = d/(1 − β) without dampening, with the rate γ(1 − β): the second term is (γ_torch/2)(1 + β)‖b‖².

S. Yaida, "Fluctuation-Dissipation Relations for Stochastic Gradient Descent", ICLR 2019, arXiv 1810.00004; H. Lang, P.
Zhang and L. Xiao, "Using Statistics to Automate Stochastic Optimization", NeurIPS 2019, arXiv 1909.09785.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import SGD, Optimizer

from aleator.optim.sharded_norms import by_placement, local, local_gradient, state_dtype
from aleator.optim.stationarity.schedule import StationaritySchedule, decayed_gradient, refuse_prox

Vectors = Float[Tensor, "*steps n"]


def fluctuation_sides(
    x: Vectors, g: Vectors, d: Vectors, lr: float, momentum: float
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """Return E⟨x, g⟩ and (γ/2)·(1 + β)/(1 − β)·E‖d‖², which are equal where SGD is stationary (Yaida 2019).

    Args:
        x: the weights before each step, the last dimension being the weights.
        g: the gradient at them, weight decay included.
        d: d_t = (1 − β) g_t + β d_{t−1}, of the same step; torch's momentum buffer times 1 − β.
        lr: γ of x_{t+1} = x_t − γ d_t; torch's learning rate divided by 1 − β.
        momentum: β, in [0, 1).

    Raises:
        ValueError: if β is out of range.
    """
    if not 0 <= momentum < 1:
        raise ValueError(f"momentum must be in [0, 1), got {momentum}")
    right = lr / 2 * (1 + momentum) / (1 - momentum)
    return (x * g).sum(-1).mean(), right * d.square().sum(-1).mean()


class SASA(StationaritySchedule):
    """Lower the learning rate of SGD by a factor when its steps have become stationary.

    Looks at every step through the optimizer's hooks; two inner products per parameter, and the device is waited for
    once in ``check_every`` steps. With parameters sharded by FSDP2 one number is reduced in a step. Gradients must be
    those that SGD steps along: do not clip them, and do not change them otherwise. Weight decay is taken into account.

    Args:
        optimizer: torch's SGD, without Nesterov's direction, to which the identity does not apply.
        check_every: steps from one test to the next, at least 40.
        factor: what the learning rates are multiplied by.
        confidence: of the t-interval.

    Raises:
        ValueError: if a number is out of range, or the optimizer is no SGD or has a proximal step.
        RuntimeError: in a step with a closure, or with scaled gradients.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1, momentum=0.9)
        >>> schedule = SASA(optimizer, check_every=1000)
    """

    _numbers = (*StationaritySchedule._numbers, "samples")

    BATCHES = 20

    def __init__(
        self, optimizer: Optimizer, check_every: int = 1000, *, factor: float = 0.1, confidence: float = 0.95
    ) -> None:
        refuse_prox(optimizer, "the identity holds for plain steps")
        if not isinstance(optimizer, SGD):
            raise ValueError(f"optimizer must be torch.optim.SGD, got {type(optimizer).__name__}")
        if any(group["nesterov"] for group in optimizer.param_groups):
            raise ValueError("nesterov must be False with SASA, whose identity holds for the heavy ball, got True")
        if check_every < 2 * self.BATCHES:
            raise ValueError(f"check_every must be at least {2 * self.BATCHES}, got {check_every}")
        if not 0 < confidence < 1:
            raise ValueError(f"confidence must be in (0, 1), got {confidence}")
        self.check_every = check_every
        self.confidence = confidence
        self._read: list[float] = []  # on the host
        self._recent: list[Tensor] = []  # still on the device
        self._terms: list[tuple[Tensor, Tensor]] = []
        self._weights: dict[int, float | Tensor] = {}
        super().__init__(optimizer, factor)

    @property
    def samples(self) -> Float[Tensor, " samples"]:
        """The samples since the last drop, float64 on the CPU; waits for the device."""
        self._fetch()
        return torch.tensor(self._read, dtype=torch.float64)

    @samples.setter
    def samples(self, values: Tensor) -> None:
        self._read, self._recent = values.tolist(), []

    def interval(self) -> tuple[float, float] | None:
        """Return the interval of the mean of the samples' last half; None where there are too few."""
        from scipy.special import stdtrit  # Student's quantile, without all of scipy.stats

        half = len(self._read) // 2
        length = half // self.BATCHES
        if length == 0:
            return None
        last = torch.tensor(self._read[len(self._read) - length * self.BATCHES :], dtype=torch.float64)
        means = last.view(self.BATCHES, length).mean(1)
        mean = float(means.mean())
        quantile = float(stdtrit(self.BATCHES - 1, (1 + self.confidence) / 2))
        width = quantile * float(means.std()) / math.sqrt(self.BATCHES)
        return mean - width, mean + width

    def before_step(self) -> None:
        """Take ⟨x, g⟩ of every parameter, and ‖d‖² where there is no momentum and d is g."""
        self._terms = []
        for group in self.optimizer.param_groups:
            # The rate of this step: a schedule may move it afterwards.
            self._weights[id(group)] = _weight_of_square(group)
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = decayed_gradient(group, local(parameter), local_gradient(parameter))
                self._terms.append((parameter, _inner(local(parameter), gradient)))
                if group["momentum"] == 0:
                    self._terms.append((parameter, self._square(group, gradient)))

    def after_step(self) -> None:
        """Take ‖d‖² where there is momentum, make the sample, and test when it is time."""
        for group in self.optimizer.param_groups:
            for parameter in group["params"] if group["momentum"] != 0 else ():
                if parameter.grad is not None:
                    buffer = local(self.optimizer.state[parameter]["momentum_buffer"])
                    self._terms.append((parameter, self._square(group, buffer)))
        if not self._terms:
            return
        self._recent.append(_whole_sum(self._terms))
        self._terms = []
        if (len(self._read) + len(self._recent)) % self.check_every == 0:
            self._fetch()
            found = self.interval()
            if found is not None and found[0] <= 0 <= found[1]:
                self.drop()

    def forget(self) -> None:
        """Forget the samples."""
        self._read, self._recent = [], []

    def _square(self, group: dict[str, Any], direction: Tensor) -> Tensor:
        norm: Tensor = torch.linalg.vector_norm(direction, dtype=state_dtype(direction)).double()
        return -self._weights[id(group)] * norm.square()

    def _fetch(self) -> None:
        if self._recent:
            self._read += torch.stack(self._recent).tolist()
            self._recent = []


def _inner(x: Tensor, g: Tensor) -> Tensor:
    """Return ⟨x, g⟩ in float64, summed in at least float32: one pass over each, without a product in between."""
    dtype = state_dtype(x)
    return torch.dot(x.detach().flatten().to(dtype), g.flatten().to(dtype)).double()


def _weight_of_square(group: dict[str, Any]) -> float | Tensor:
    """Return (γ_torch/2)(1 + β)/(1 − dampening), which multiplies the square of torch's buffer.

    Without momentum torch does not look at dampening, and the buffer is the gradient.
    """
    rate = group["lr"].double().clone() if isinstance(group["lr"], Tensor) else group["lr"]
    dampening = group["dampening"] if group["momentum"] else 0.0
    weight: float | Tensor = rate / 2 * (1 + group["momentum"]) / (1 - dampening)
    return weight


def _whole_sum(terms: list[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the sum of numbers of parameters, each of which processes may hold a part of."""
    total: Tensor | None = None
    for (_, _, groups), indices in by_placement([parameter for parameter, _ in terms]).items():
        value = torch.stack([terms[i][1] for i in indices]).sum()
        for group in groups:
            torch.distributed.all_reduce(value, group=group)
        total = value if total is None else total + value.to(total.device)
    assert total is not None
    return total
