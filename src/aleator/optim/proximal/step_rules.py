"""Lengths of proximal steps: a rate that falls as stochastic approximation asks, and rates from smoothness.

    γ_t = γ_0/(1 + c t)^a,    ½ < a ≤ 1:    Σ γ_t = ∞, Σ γ_t² < ∞

A constant rate needs no rule: with noise it hovers around the solution, without it any γ ≤ 1/L converges. L bounds the
curvature of the mean loss. For a linear model with a loss of curvature at most c in its outputs that is
c·λ_max(XᵀX/n); for any model power iteration finds it where the weights are now, from below.

H. Robbins and S. Monro, "A Stochastic Approximation Method", Ann. Math. Statist. 1951.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aleator.optim.targets.step_size import SMOOTH_STEP


class RobbinsMonro(LRScheduler):
    """Each group's own learning rate, divided by (1 + c t)^a at step t, counted from 0.

    Args:
        optimizer: its groups' learning rates are γ_0.
        c: how fast the rate falls, positive; by the unit in which ``step()`` is called, batches or passes.
        a: in (½, 1].

    Raises:
        ValueError: if a number is out of range.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.5)
        >>> schedule = RobbinsMonro(optimizer, c=0.1)  # call schedule.step() after every pass
    """

    def __init__(self, optimizer: Optimizer, c: float = 1.0, a: float = 1.0) -> None:
        if not c > 0:
            raise ValueError(f"c must be positive, got {c}")
        if not 0.5 < a <= 1:
            raise ValueError(f"a must be in (0.5, 1], got {a}")
        self.c = c
        self.a = a
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group at the present step."""
        for group in self.optimizer.param_groups:
            if "initial_lr" not in group:  # added after construction
                group["initial_lr"] = group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"]
        fraction = float((1 + self.c * self.last_epoch) ** -self.a)
        return [group["initial_lr"] * fraction for group in self.optimizer.param_groups]


@torch.no_grad()
def linear_smoothness(inputs: Float[Tensor, "examples features"], loss: str, *, bias: bool = True) -> float:
    """Return L of the mean loss of a linear model, for every value of its weights.

    Args:
        inputs: X.
        loss: ``"cross-entropy"`` of a softmax, ``"logistic"`` of one logit, ``"squared"``, (f − y)², or
            ``"half-squared"``, ½(f − y)².
        bias: whether the model has one: a column of ones is then part of X.

    Raises:
        ValueError: if there is no such loss or no example.
    """
    if loss not in SMOOTH_STEP:
        raise ValueError(f"loss must be one of {', '.join(SMOOTH_STEP)}, got {loss!r}")
    if inputs.ndim != 2 or not len(inputs):
        raise ValueError(f"inputs must be examples × features, got shape {tuple(inputs.shape)}")
    wide = inputs.double()
    if bias:
        wide = torch.cat([wide, wide.new_ones(len(wide), 1)], dim=1)
    gram = wide @ wide.T if len(wide) < wide.shape[1] else wide.T @ wide
    return float(torch.linalg.eigvalsh(gram)[-1]) / len(wide) / SMOOTH_STEP[loss]


def hessian_norm(
    loss: Callable[[], Tensor], parameters: Iterable[Tensor], generator: torch.Generator, iterations: int = 30
) -> float:
    """Return the largest absolute eigenvalue of the Hessian of a loss where the weights are, by power iteration.

    An estimate from below, of the curvature at one point: a rate of 1/L from it needs some margin. Gradients that
    parameters hold stay.

    Args:
        loss: computes it with a graph that can be differentiated twice.
        parameters: of the Hessian.
        generator: draws the first vector, on the CPU.
        iterations: Hessian-vector products.

    Raises:
        ValueError: if there is no iteration.
    """
    if iterations < 1:
        raise ValueError(f"iterations must be at least 1, got {iterations}")
    chosen = list(parameters)
    vectors = [torch.randn(p.shape, generator=generator, dtype=p.dtype).to(p.device) for p in chosen]
    with torch.enable_grad():
        gradients = torch.autograd.grad(loss(), chosen, create_graph=True)
    norm = 0.0
    for _ in range(iterations):
        length = torch.stack([v.double().square().sum() for v in vectors]).sum().sqrt()
        vectors = [v / length.to(v.dtype) for v in vectors]
        products = torch.autograd.grad(gradients, chosen, vectors, retain_graph=True, materialize_grads=True)
        norm = float(torch.stack([v.double().square().sum() for v in products]).sum().sqrt())
        if norm == 0:
            break
        vectors = list(products)
    return norm
