"""A sequence of penalties, from one so strong that nothing is left to weak ones, each solved from the solution before.

    λ_max = max|∇F(0)| > λ_1 > … > λ_K,    geometric

At λ_max and above zero is the solution of an ℓ1 problem. Neighbouring solutions are close: a warm start makes a whole
path little dearer than its last point. λ here multiplies the penalty of a *mean* loss; scikit-learn's parameters are

    α = λ for ½(f − y)², λ/2 for (f − y)²  (Lasso, ElasticNet),      C = 1/(nλ)  (LogisticRegression, LinearSVC).

J. Friedman, T. Hastie and R. Tibshirani, "Regularization Paths for Generalized Linear Models via Coordinate Descent",
J. Stat. Softw. 2010.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from aleator.optim.proximal.elementwise import L1, ElasticNet, Ridge
from aleator.optim.proximal.operator import Prox, check_positive, check_weight
from aleator.optim.proximal.shards import whole_of


@dataclass(frozen=True)
class PathPoint:
    """A solution on the path.

    Attributes:
        lam: λ.
        weights: the parameters there, by name, copies.
        zeros: the share of their entries that is exactly zero.
        result: what the solver returned.
    """

    lam: float
    weights: dict[str, Tensor]
    zeros: float
    result: Any


def largest_lam(gradients: Iterable[Tensor]) -> float:
    """Return λ_max, the least λ for which weights of zero solve the ℓ1 problem.

    Args:
        gradients: of the loss in the penalised parameters, where these are zero and the others are fitted.
    """
    largest = [whole_of(gradient).abs().amax() for gradient in gradients]
    if not largest:
        raise ValueError("gradients must have one tensor at least, got none")
    return float(torch.stack([value.to(largest[0]) for value in largest]).amax())


def lam_grid(largest: float, number: int, ratio: float = 1e-3) -> list[float]:
    """Return ``number`` values from ``largest`` down to ``ratio`` times that, each the same fraction of the one before.

    Raises:
        ValueError: if a number is out of range.
    """
    check_positive("largest", largest)
    if number < 2:
        raise ValueError(f"number must be at least 2, got {number}")
    if not 0 < ratio < 1:
        raise ValueError(f"ratio must be in (0, 1), got {ratio}")
    return [largest * math.exp(math.log(ratio) * k / (number - 1)) for k in range(number)]


def lam_path(
    named_parameters: Iterable[tuple[str, Tensor]], fit: Callable[[float], Any], lams: Sequence[float]
) -> list[PathPoint]:
    """Solve for each λ from where the solution before has left the parameters, and keep the solutions.

    Args:
        named_parameters: of the model, which keeps its weights from one λ to the next.
        fit: trains the model for a λ with an optimizer of its own, so that no momentum is carried over.
        lams: falling; the strongest penalty first.

    Raises:
        ValueError: if λ rises or is negative.

    Example:
        >>> from aleator.optim import FISTA, proximal as prox
        >>> weight = torch.zeros(2, requires_grad=True)
        >>> def fit(lam):
        ...     optimizer = FISTA([weight], lr=1.0, prox=prox.L1(lam))
        ...     def closure():
        ...         optimizer.zero_grad()
        ...         loss = (weight - torch.tensor([2.0, 1.0])).square().sum() / 2
        ...         loss.backward()
        ...         return loss
        ...     return optimizer.minimize(closure, tolerance=1e-6)
        >>> [point.zeros for point in lam_path([("weight", weight)], fit, [2.0, 1.0, 0.5])]
        [1.0, 0.5, 0.0]
    """
    parameters = list(named_parameters)
    for lam in lams:
        check_weight("lams", lam)
    if any(after > before for before, after in itertools.pairwise(lams)):
        raise ValueError(f"lams must fall, so that each solution starts the next, got {list(lams)}")
    found = []
    for lam in lams:
        result = fit(lam)
        weights = {name: whole_of(parameter.detach()).clone() for name, parameter in parameters}
        nonzero = torch.stack([weight.count_nonzero().cpu() for weight in weights.values()]).sum()
        zeros = 1 - int(nonzero) / sum(weight.numel() for weight in weights.values())
        found.append(PathPoint(lam, weights, zeros, result))
    return found


def sklearn_alpha(penalty: Prox, loss: Literal["squared", "half-squared"] = "half-squared") -> dict[str, float]:
    """Return ``alpha`` and ``l1_ratio`` of scikit-learn's ``ElasticNet`` for a penalty of the mean loss.

    Args:
        penalty: `L1`, `Ridge` or `ElasticNet`.
        loss: (f − y)² or ½(f − y)², which scikit-learn has.

    Raises:
        ValueError: if scikit-learn has no such penalty or loss.
    """
    if loss not in ("squared", "half-squared"):
        raise ValueError(f"loss must be 'squared' or 'half-squared', got {loss!r}")
    l1, l2 = _weights(penalty)
    half = 0.5 if loss == "squared" else 1.0
    return {"alpha": half * (l1 + l2), "l1_ratio": l1 / (l1 + l2)}


def sklearn_c(penalty: Prox, examples: int) -> dict[str, float]:
    """Return ``C`` and ``l1_ratio`` of scikit-learn's ``LogisticRegression`` for a penalty of the mean loss.

    Args:
        penalty: `L1`, `Ridge` or `ElasticNet`.
        examples: n, over which the mean is.

    Raises:
        ValueError: if scikit-learn has no such penalty or there is no example.
    """
    if examples < 1:
        raise ValueError(f"examples must be at least 1, got {examples}")
    l1, l2 = _weights(penalty)
    return {"C": 1 / (examples * (l1 + l2)), "l1_ratio": l1 / (l1 + l2)}


def _weights(penalty: Prox) -> tuple[float, float]:
    if isinstance(penalty, L1) and not isinstance(penalty.lam, Tensor):
        found = (float(penalty.lam), 0.0)
    elif isinstance(penalty, Ridge):
        found = (0.0, float(penalty.lam))
    elif isinstance(penalty, ElasticNet):
        found = (float(penalty.l1), float(penalty.l2))
    else:
        raise ValueError(f"penalty must be L1 with a number, Ridge or ElasticNet, got {penalty!r}")
    if sum(found) <= 0:
        raise ValueError(f"penalty must not be zero, got {penalty!r}")
    return found
