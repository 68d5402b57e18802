"""Bias and variance of a gradient estimator, by going through everything that can happen or by sampling.

For an estimator whose sample of the gradient is ĝ, and the loss f of the gates of n units with logits a:

    truth = ∂/∂a E[f(gates)],    bias = E[ĝ] − truth,    variance = E[ĝ²] − E[ĝ]²,    unit by unit

The noise of a unit is a uniform u. Between the few values of u where a gate changes, ĝ is at most linear in u, so the
expectations over u are sums over two points of each interval (Gauss–Legendre), and a single point where u has no other
effect; those over all units are sums over all combinations.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.nn.gate_estimator import GateEstimator
from aleator.nn.score_function import Losses, arm, disarm, reinforce, rloo

LARGEST = 2**16

# Takes f, logits, and a generator or noise; returns losses whose gradient at the logits is the estimate.
LossEstimator = Callable[..., Tensor]

_ROWS = 2**14  # evaluated at a time


@dataclass(frozen=True)
class Audit:
    """What was found for every unit.

    Attributes:
        mean: of the estimate.
        truth: the gradient of the expected loss, None where it is not known.
        variance: of one estimate.
        samples: how many it was found from, None for all that can happen.
    """

    mean: Float[Tensor, " units"]
    truth: Float[Tensor, " units"] | None
    variance: Float[Tensor, " units"]
    samples: int | None

    @property
    def bias(self) -> Float[Tensor, " units"] | None:
        """Mean minus truth, None where that is not known."""
        return None if self.truth is None else self.mean - self.truth

    @property
    def standard_error(self) -> Float[Tensor, " units"]:
        """Of the mean; 0 where it is exact."""
        return torch.zeros_like(self.mean) if self.samples is None else (self.variance / self.samples).sqrt()


class GradientAudit:
    """An estimator, a loss and logits, and what the estimator makes of them.

    Args:
        estimator: a `GateEstimator`; or `reinforce`, `rloo`, `arm` or `disarm`, with ``functools.partial`` for their
            options; or, for `monte_carlo` alone, any function of the same kind.
        f: takes gates, one row per sample, and returns one loss per row. A gate's value may be other than 0 or 1.
        logits: a, of n units.

    Raises:
        ValueError: if the logits are not a vector.

    Example:
        >>> from aleator.nn import BernoulliST
        >>> audit = GradientAudit(BernoulliST(), lambda h: (h - 0.5).square().sum(-1), torch.zeros(1)).exact()
        >>> float(audit.truth), float(audit.bias)
        (0.0, 0.0)
    """

    def __init__(self, estimator: GateEstimator | LossEstimator, f: Losses, logits: Float[Tensor, " units"]) -> None:
        if logits.ndim != 1 or not len(logits):
            raise ValueError(f"logits must be a vector of at least one unit, got shape {tuple(logits.shape)}")
        self.estimator, self.f, self.logits = estimator, f, logits.detach()

    def exact(self) -> Audit:
        """Return mean, bias and variance by enumeration, in double precision if the logits have it.

        Raises:
            ValueError: if the estimator is none of those that are known to have finitely many cases, or there are more
                than 2^16.
        """
        nodes, weights, copies = self._cases()
        units = copies * len(self.logits)
        if nodes.shape[1] ** units > LARGEST:
            raise ValueError(
                f"exact() goes through at most {LARGEST} cases, got {nodes.shape[1]}^{units}: use monte_carlo"
            )
        picks = torch.cartesian_prod(*[torch.arange(nodes.shape[1])] * units).view(-1, copies, len(self.logits))
        every = torch.arange(len(self.logits))
        noise, weight = nodes[every, picks], weights[every, picks].flatten(1).prod(1, keepdim=True)
        mean, square = torch.zeros_like(self.logits), torch.zeros_like(self.logits)
        for some, share in zip(torch.split(noise, _ROWS), torch.split(weight, _ROWS), strict=True):
            estimates = self._estimates(len(some), noise=some.transpose(0, 1) if self._copied else some[:, 0])
            mean += (share * estimates).sum(0)
            square += (share * estimates.square()).sum(0)
        return Audit(mean, self._truth(), (square - mean.square()).clamp(min=0), None)

    def monte_carlo(self, n: int, generator: torch.Generator) -> Audit:
        """Return mean, bias and variance over n samples; the truth is exact up to 16 units, and otherwise not known.

        Raises:
            ValueError: if n is below 2.
        """
        if n < 2:
            raise ValueError(f"n must be at least 2, got {n}")
        parts = [self._estimates(min(_ROWS, n - done), generator=generator) for done in range(0, n, _ROWS)]
        estimates = torch.cat(parts)
        known = len(self.logits) <= math.log2(LARGEST)
        return Audit(estimates.mean(0), self._truth() if known else None, estimates.var(0), n)

    @property
    def _function(self) -> Any:
        return self.estimator.func if isinstance(self.estimator, functools.partial) else self.estimator

    @property
    def _copied(self) -> bool:
        return self._function is rloo

    def _cases(self) -> tuple[Tensor, Tensor, int]:
        """Return values of u for each unit, their weights, and how many independent samples the estimator takes."""
        function = self._function
        if isinstance(function, GateEstimator):
            if not function.discrete:
                raise ValueError(f"estimator must have finitely many cases, got {function}: use monte_carlo")
            p = function.probability(self.logits)
        else:
            p = self.logits.sigmoid()
        if isinstance(function, GateEstimator) or function in (reinforce, rloo):
            options = self.estimator.keywords if isinstance(self.estimator, functools.partial) else {}
            copies = options.get("k", 2) if self._copied else 1
            # u = 1 is above every probability.
            return torch.stack([torch.zeros_like(p), torch.ones_like(p)], 1), torch.stack([p, 1 - p], 1), copies
        if function not in (arm, disarm):
            raise ValueError(f"estimator must be one whose cases are known, got {self.estimator}: use monte_carlo")
        ends = torch.stack(
            [torch.zeros_like(p), torch.minimum(p, 1 - p), torch.maximum(p, 1 - p), torch.ones_like(p)], 1
        )
        width, middle = ends.diff(dim=1), (ends[:, 1:] + ends[:, :-1]) / 2
        if function is disarm:
            return middle, width, 1
        away = width / (2 * math.sqrt(3))
        return torch.cat([middle - away, middle + away], 1), torch.cat([width, width], 1) / 2, 1

    def _estimates(
        self, rows: int, *, generator: torch.Generator | None = None, noise: Tensor | None = None
    ) -> Float[Tensor, "rows units"]:
        logits = self.logits.expand(rows, -1).clone().requires_grad_()
        estimator = self.estimator
        if isinstance(estimator, GateEstimator):
            gates = estimator(logits, generator=generator, noise=noise)
            losses = self._losses(gates)
            score = estimator.score(logits, gates)
            if score is not None:
                losses = losses + (losses.detach()[:, None] * score).sum(1)
        else:
            losses = estimator(self.f, logits, generator=generator, noise=noise)
        (gradient,) = torch.autograd.grad(losses.sum(), logits, allow_unused=True, materialize_grads=True)
        return gradient

    def _truth(self) -> Tensor | None:
        """Return ∂/∂a Σ P(which gates are on) f(gates), through the probabilities and the gates' values."""
        function = self._function
        if isinstance(function, GateEstimator) and not function.discrete and not function.binary:
            return None
        a = self.logits.clone().requires_grad_()
        p, magnitude = a.sigmoid(), torch.ones_like(a)
        if isinstance(function, GateEstimator):
            p, magnitude = function.probability(a), function.magnitude(a)
        truth = torch.zeros_like(a)
        on = torch.cartesian_prod(*[torch.tensor([False, True])] * len(a)).view(-1, len(a))
        for some in torch.split(on, _ROWS):
            expected = (torch.where(some, p, 1 - p).prod(1) * self._losses(some * magnitude)).sum()
            truth += torch.autograd.grad(expected, a, retain_graph=True)[0]
        return truth

    def _losses(self, gates: Tensor) -> Tensor:
        losses = self.f(gates)
        if losses.shape != gates.shape[:1]:
            raise ValueError(f"f must return losses of shape {tuple(gates.shape[:1])}, got {tuple(losses.shape)}")
        return losses
