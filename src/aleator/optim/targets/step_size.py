"""Rules for the step size γ, by which a target surrogate moves in target space.

For a loss that is L-smooth in the outputs of the model the surrogate with γ ≤ 1/L lies above the loss everywhere, and
touches it where the gradient was taken. `SMOOTH_STEP` holds 1/L for the usual losses. With mini-batches γ has to fall
for the iterates to settle, as in `InverseSqrt`; `AdaGradNormStep` makes it fall as fast as gradients ask for; and
`TargetArmijo` looks for it on the loss itself.

W. Lavington, S. Vaswani, R. Babanezhad, M. Schmidt and N. Le Roux, "Target-based Surrogates for Stochastic
Optimization", ICML 2023, arXiv 2302.02607. The authors' program has an inverse step η: γ = 1/(2η).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Shaped
from torch import Tensor

# 1/L per row of outputs: (f − y)², ½(f − y)², logistic loss of one logit, cross entropy of softmax.
SMOOTH_STEP = {"squared": 0.5, "half-squared": 1.0, "logistic": 4.0, "cross-entropy": 2.0}

MeanLoss = Callable[[Tensor], float]
"""The mean loss of a batch, over all processes, as a function of its targets."""


@runtime_checkable
class StepSize(Protocol):
    """A rule for γ. ``state_dict`` and ``load_state_dict`` are as in every object that a run saves.

    A rule that searches may have an attribute ``accepted``; where it is False after a call, no inner step is taken.
    """

    def __call__(self, anchor: Tensor, grad: Tensor, mean: Callable[[Tensor], float], loss: MeanLoss | None) -> float:
        """Return γ of the next surrogate.

        Args:
            anchor: the targets, examples × outputs.
            grad: the gradient of each example's loss in its targets.
            mean: the mean of a value per example over the batch and all processes.
            loss: the mean loss as a function of the targets, where the oracle is one.
        """
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what the rule remembers."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where ``state_dict`` was called."""
        ...


class Constant:
    """γ, the same in every step."""

    def __init__(self, step_size: float) -> None:
        self.step_size = _positive("step_size", step_size)
        self.steps = 0

    def __call__(self, anchor: Tensor, grad: Tensor, mean: Callable[[Tensor], float], loss: MeanLoss | None) -> float:
        """Return γ; see `StepSize`."""
        self.steps += 1
        return self.step_size * self._factor(self.steps)

    def state_dict(self) -> dict[str, Any]:
        """Return the number of steps."""
        return {"steps": self.steps}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.steps = int(state["steps"])

    def _factor(self, t: int) -> float:
        return 1.0


class InverseSqrt(Constant):
    """γ/√t in step t, counted from 1."""

    def _factor(self, t: int) -> float:
        return 1 / math.sqrt(t)


class Exponential(Constant):
    """γ·T^(−t/T) in step t = 1, …, T: at the end a fraction 1/T of γ is left.

    Args:
        step_size: γ.
        total_steps: T.
    """

    def __init__(self, step_size: float, total_steps: int) -> None:
        super().__init__(step_size)
        if total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {total_steps}")
        self.total_steps = total_steps

    def _factor(self, t: int) -> float:
        return float(self.total_steps ** (-t / self.total_steps))


class AdaGradNormStep:
    """γ/√(Σ ‖g_s‖²) over the steps s until now, with ‖g_s‖² the mean over the examples of a batch.

    Args:
        step_size: γ.
    """

    def __init__(self, step_size: float) -> None:
        self.step_size = _positive("step_size", step_size)
        self.total = 0.0

    def __call__(self, anchor: Tensor, grad: Tensor, mean: Callable[[Tensor], float], loss: MeanLoss | None) -> float:
        """Return γ; see `StepSize`."""
        self.total += mean(grad.reshape(len(grad), -1).square().sum(1))
        return self.step_size / (math.sqrt(self.total) + 1e-6)

    def state_dict(self) -> dict[str, Any]:
        """Return the sum."""
        return {"total": self.total}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.total = float(state["total"])


class TargetArmijo:
    """The largest γ tried for which moving the targets against the gradient lowers the loss as Armijo asks.

        ℓ(z − γ g) ≤ ℓ(z) − c γ ‖g‖²,    means over the batch

    The first trial is the last γ times ``expand``; a refused one is multiplied by ``shrink``. Where the smallest γ is
    refused, too, ``accepted`` is False, no inner step is taken, and the next search begins as this one did. It
    evaluates the loss once per trial, and so is meant for oracles whose loss is cheap and whose gradient is not.

    Args:
        first_step: the first trial of all.
        c: in (0, 1).
        shrink: in (0, 1).
        expand: at least 1.
        bounds: γ stays within these.
    """

    def __init__(
        self,
        first_step: float = 1.0,
        c: float = 0.5,
        shrink: float = 0.9,
        expand: float = 1.8,
        bounds: tuple[float, float] = (1e-4, 1e4),
    ) -> None:
        self.step_size = _positive("first_step", first_step) / expand
        self.accepted = True
        for name, value in (("c", c), ("shrink", shrink)):
            if not 0 < value < 1:
                raise ValueError(f"{name} must be in (0, 1), got {value}")
        if not 1 <= expand < math.inf:
            raise ValueError(f"expand must be at least 1, got {expand}")
        if not 0 < bounds[0] <= bounds[1]:
            raise ValueError(f"bounds must be a pair 0 < low <= high, got {bounds}")
        self.c, self.shrink, self.expand, self.bounds = c, shrink, expand, bounds

    def __call__(self, anchor: Tensor, grad: Tensor, mean: Callable[[Tensor], float], loss: MeanLoss | None) -> float:
        """Return γ; see `StepSize`.

        Raises:
            TypeError: if the oracle gives gradients and is no function of the targets that can be evaluated alone.
        """
        if loss is None:
            raise TypeError("TargetArmijo needs an oracle that returns losses alone, got one that returns gradients")
        low, high = self.bounds
        gamma = min(max(self.step_size * self.expand, low), high)
        before, slope = loss(anchor), mean(grad.reshape(len(grad), -1).square().sum(1))
        # Written so that a NaN is a refusal.
        while not (accepted := loss(anchor - gamma * grad) <= before - self.c * gamma * slope) and gamma > low:
            gamma = max(gamma * self.shrink, low)
        self.accepted = accepted
        if accepted:
            self.step_size = gamma
        return gamma

    def state_dict(self) -> dict[str, Any]:
        """Return the last γ."""
        return {"step_size": self.step_size}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.step_size = float(state["step_size"])


class DiagonalAdaGrad:
    """A metric that AdaGrad's accumulators stretch: the weight of example i's output j is √(Σ g_ij²).

    Accumulators belong to examples of the data set, so `TargetSurrogate.step` has to be given their indices, and among
    several processes an example has to stay with one. They are used within [1e-5, 1e5].

    Args:
        num_examples: of the data set.
        num_targets: outputs of the model per example.
        device: where the accumulators are kept.
    """

    def __init__(self, num_examples: int, num_targets: int, device: torch.device | str = "cpu") -> None:
        if num_examples < 1 or num_targets < 1:
            raise ValueError(f"num_examples and num_targets must be positive, got {num_examples}, {num_targets}")
        self.sums = torch.zeros(num_examples, num_targets, dtype=torch.float64, device=device)

    def __call__(
        self, anchor: Tensor, grad: Tensor, ids: Shaped[Tensor, " batch"] | None
    ) -> Shaped[Tensor, "batch ..."]:
        """Return the weights of a batch after adding its squared gradients.

        Raises:
            ValueError: without the examples' indices.
        """
        if ids is None:
            raise ValueError("ids must be the indices of the batch's examples for DiagonalAdaGrad, got None")
        ids = ids.to(self.sums.device)
        self.sums.index_add_(0, ids, grad.reshape(len(grad), -1).to(self.sums).square())
        return self.sums[ids].clamp(1e-5, 1e5).sqrt().to(anchor).reshape(anchor.shape)

    def state_dict(self) -> dict[str, Any]:
        """Return the accumulators."""
        return {"sums": self.sums.clone()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.sums.copy_(state["sums"])


def logistic_metric(anchor: Tensor, grad: Tensor, ids: Tensor | None = None, damping: float = 1e-5) -> Tensor:
    """Return the second derivative of the logistic loss of one logit, p(1 − p) + damping: γ = 1 is Newton's step."""
    p = anchor.sigmoid()
    return p * (1 - p) + damping


def softmax_metric(anchor: Tensor, grad: Tensor, ids: Tensor | None = None, damping: float = 1e-5) -> Tensor:
    """Return the second derivative of softmax cross entropy, diag(π) − ππᵀ + damping·I, a matrix per example."""
    p = anchor.softmax(-1)
    identity = torch.eye(p.shape[-1], dtype=p.dtype, device=p.device)
    return torch.diag_embed(p) - p.unsqueeze(-1) * p.unsqueeze(-2) + damping * identity


def _positive(name: str, value: float) -> float:
    if not 0 < value < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {value}")
    return value
