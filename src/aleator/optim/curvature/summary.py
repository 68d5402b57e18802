"""What the curvature and the gradients of some examples say about batch and learning rate.

A spectrum of the Hessian of all examples; largest eigenvalues of small batches of them, and from these the batch noise
c (`fit_broadening`); the gradient noise scale. From λ and c follows the largest stable rate of SGD at each batch
(`max_lr`).

The suggestion: the batch is the power of two next to the noise scale, at most B_c = c/λ², beyond which the stable rate
hardly grows, and at most half the data. The rate is a tenth of the largest stable one, which leaves room for the
curvature to grow: in the first epochs it does, by a factor of 10 to 200. Both are of the moment at which they were
measured.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_map

from aleator.gradients import GradStats, example_gradients, noise_scale
from aleator.optim.curvature.broadening import Broadening, fit_broadening
from aleator.optim.curvature.operator import CurvatureOperator
from aleator.optim.curvature.rates import max_lr
from aleator.optim.curvature.spectrum import Spectrum, slq

SAFETY = 0.1
# Below batches of about 16 the 1/B law bends.
BATCHES = (16, 64, 256)
DRAWS = 4


@dataclass(frozen=True)
class CurvatureSummary:
    """What was measured.

    Attributes:
        size: P, trained numbers.
        examples: how many were looked at.
        n: examples of the whole training data.
        spectrum: of the Hessian of the mean loss, without weight decay.
        broadening: λ and c of the batches; None where an eigenvalue was not positive, or there were too few examples.
        noise_scale: tr V/‖ḡ‖².
        noisy: whether λ was below the noise of the smallest batch, where the law is only about right.
        draws: batches of each size behind the broadening.
    """

    size: int
    examples: int
    n: int
    spectrum: Spectrum
    broadening: Broadening | None
    noise_scale: float
    noisy: bool = False
    draws: int = DRAWS

    @property
    def lmbda(self) -> float:
        """The largest eigenvalue of all examples looked at."""
        return self.spectrum.top

    @property
    def slope(self) -> float:
        """By how much λ' of a batch is larger than λ, times b: the fitted c/λ, 0 without a fit."""
        return 0.0 if self.broadening is None else max(self.broadening.c / self.broadening.lmbda, 0.0)

    @property
    def critical_batch(self) -> float | None:
        """B_c, at which half of the largest stable rate is reached; None without a batch noise."""
        return None if self.broadening is None else self.slope / self.lmbda

    def max_lr(self, batch: int, momentum: float = 0.0, nesterov: bool = False) -> float | None:
        """Return the largest stable rate of SGD at a batch size; None where no eigenvalue is positive."""
        if self.lmbda <= 0:
            return None
        return max_lr(self.lmbda, self.slope * self.lmbda, batch, self.n, momentum, nesterov)

    def suggestion(self, momentum: float = 0.0, nesterov: bool = False) -> tuple[int, float] | None:
        """Return a batch and a learning rate to begin with; None where no eigenvalue is positive."""
        wanted = min(self.noise_scale, math.inf if not self.critical_batch else self.critical_batch, self.n / 2)
        batch = 2 ** round(math.log2(max(wanted, 1.0)))
        batch = batch if batch <= max(self.n // 2, 1) else batch // 2
        rate = self.max_lr(batch, momentum, nesterov)
        return None if rate is None else (batch, SAFETY * rate)


def summarise_curvature(
    model: nn.Module,
    losses: Callable[[nn.Module, Any], Tensor],
    batches: Iterable[Any],
    n: int,
    *,
    steps: int = 20,
    probes: int = 4,
    generator: torch.Generator,
) -> CurvatureSummary:
    """Measure curvature and gradient noise of some training examples.

    Args:
        model: in evaluation mode, neither wrapped nor compiled.
        losses: from the model and a batch to the loss of each example.
        batches: tensors, or containers of them, whose rows are examples; together at least 4 examples.
        n: examples of the whole training data.
        steps: of Lanczos' algorithm for each probe.
        probes: of the spectrum.
        generator: draws probes and small batches.

    Raises:
        ValueError: if there are too few examples, or as `CurvatureOperator` and `example_gradients`.
        CurvatureError: if the curvature is not finite.
    """
    given = list(batches)
    if not given:
        raise ValueError("batches must hold at least 4 examples, got none")
    joined = tree_map(lambda *leaves: torch.cat(leaves) if isinstance(leaves[0], Tensor) else leaves[0], *given)
    count = sum(rows_of(batch) for batch in given)
    if count < 4:
        raise ValueError(f"batches must hold at least 4 examples, got {count}")
    called = _Losses(model, losses)

    def operator(batch: Any) -> CurvatureOperator:
        return CurvatureOperator(called, _mean, [(batch, batch)])

    def drawn(size: int) -> CurvatureOperator:
        rows = torch.randperm(count, generator=generator)[:size]
        return operator(tree_map(lambda t: t[rows.to(t.device)] if isinstance(t, Tensor) else t, joined))

    whole = operator(joined)
    spectrum = slq(whole, steps, probes, generator=generator)
    fitted, noisy = None, False
    sizes = [size for size in BATCHES if size <= count // 2]
    if len(sizes) > 1 and spectrum.top > 0:
        try:
            with warnings.catch_warnings(record=True) as said:
                warnings.simplefilter("always")
                fitted = fit_broadening(drawn, sizes, DRAWS, count, steps=steps, generator=generator)
            noisy = any("below the noise" in str(warning.message) for warning in said)
        except ValueError:  # a batch without a positive eigenvalue
            fitted = None
    found = example_gradients(model, losses, joined)
    square = sum(float(torch.linalg.vector_norm(g, dtype=torch.float64)) ** 2 for g in found.mean.values())
    scale = noise_scale(GradStats(found.sq_norms, None, square, count))
    return CurvatureSummary(whole.shape[0], count, n, spectrum, fitted, scale, noisy)


class _Losses(nn.Module):
    """A model and the losses of its examples as one module, whose outputs the losses are."""

    def __init__(self, model: nn.Module, losses: Callable[[nn.Module, Any], Tensor]) -> None:
        super().__init__()
        self.model, self._losses = model, losses
        self.training = model.training

    def forward(self, batch: Any) -> Tensor:
        return self._losses(self.model, batch)


def _mean(losses: Tensor, batch: Any) -> Tensor:
    return losses.mean()


def rows_of(batch: Any) -> int:
    """Return how many examples a batch has."""
    return next(len(leaf) for leaf in tree_flatten(batch)[0] if isinstance(leaf, Tensor))
