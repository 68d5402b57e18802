"""Intervals for a true probability that hold whatever the model does, from pairs of responses that it was not shown.

For binary answers, predictions p̂ and variances V of any origin, and n fresh items with two independent responses each,

    z_i = (1[y₁ = y] − p̂)(1[y₂ = y] − p̂) / max(V, ε),     −1/(4ε) ≤ z ≤ 1/ε

is unbiased for (p − p̂)²/max(V, ε). With γ an upper confidence bound of E[z] at level 1 − α, Markov's inequality gives,
for a fresh X and for all β at once,

    P[ |p̂ − p| ≥ √(γ max(V, ε)/β) ] ≤ β                with probability 1 − α over the n items.

The bound is over all X together, not within a group of them, and says nothing about inputs of another distribution.
Hoeffding's inequality needs no more than the range, the empirical Bernstein bound (Maurer and Pontil, COLT 2009,
arXiv 0907.3740, theorem 4) uses the sample variance, betting (Waudby-Smith and Ramdas, JRSS B 86, 2024,
arXiv 2010.09686) plays against every mean that is too small to be true.

D. D. Johnson et al., arXiv 2402.08733, section 4.2 and Algorithm 1, of which this is our reconstruction.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Hashable, Iterable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.stats.pairs.calibration_error import checked_variance
from aleator.stats.pairs.squared_error import checked_answer, checked_probability

Bound = Literal["bernstein", "hoeffding", "betting"]


def conservative_factor(
    p: Float[Tensor, " items"],
    V: Float[Tensor, " items"],
    y1: Tensor,
    y2: Tensor,
    eps: float,
    alpha: float,
    method: Bound = "bernstein",
    *,
    item_ids: Iterable[Hashable] | Tensor | None = None,
    used_ids: Iterable[Hashable] | Tensor | None = None,
) -> float:
    """Return γ, by which variances are multiplied so that intervals hold for a model that is not calibrated.

    The items must have had no part in training or early stopping. If eps is chosen on them as well, divide alpha by the
    number of values that were tried. For K > 2 labels take a fixed one, or each in turn with alpha/K.

    Args:
        p: p̂, the predicted probability of one scored label for each item.
        V: the variance claimed for it, raw; below ``eps`` it is taken for ``eps``.
        y1: of each item the first response: 0 or 1, whether it is the scored label.
        y2: the second, independent of the first.
        eps: ε > 0. The range of z, and with it Hoeffding's bound, grows as 1/ε: about the square of the radius wanted,
            times β.
        alpha: in (0, 1), the probability that the items mislead.
        method: ``"hoeffding"``, ``"bernstein"`` or ``"betting"``.
        item_ids: a name for each item, to check that none is there twice and none is among ``used_ids``.
        used_ids: the names of all items that training and early stopping have seen.

    Returns:
        γ ≥ 0.

    Raises:
        ValueError: if an item was used before or is there twice, there are fewer than two items, shapes differ, or a
            value is out of its range.

    Warns:
        UserWarning: where a raw V is below −0.001 or the confidence above 1.05, which no calibrated model has; and
            where the two responses of more than 99.9 % of the items agree, as two responses of one annotator would.
    """
    if not 0 < eps < math.inf:
        raise ValueError(f"eps must be positive and finite, got {eps}")
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must be in (0, 1), got {alpha}")
    if method not in ("bernstein", "hoeffding", "betting"):
        raise ValueError(f"method must be bernstein, hoeffding or betting, got {method!r}")
    if p.ndim != 1:
        raise ValueError(f"p must have one value for each item, got shape {tuple(p.shape)}")
    n = len(p)
    if n < 2:
        raise ValueError(f"p must be of at least 2 items, got {n}")
    _check_items(n, item_ids, used_ids)
    predicted, claimed = checked_probability("p", p), checked_variance(V, p)
    answers = []
    for name, y in (("y1", y1), ("y2", y2)):
        if y.shape != p.shape:
            raise ValueError(f"{name} must have one response for each of {n} items, got shape {tuple(y.shape)}")
        answers.append(checked_answer(name, y))
    _warn(predicted, claimed, answers[0], answers[1])
    z = (answers[0] - predicted) * (answers[1] - predicted) / claimed.clamp(min=eps)
    bound = {"bernstein": _bernstein, "hoeffding": _hoeffding, "betting": _betting}[method]
    return max(0.0, bound(z, eps, alpha))


def confidence_interval(
    p: Float[Tensor, "*shape"],
    V: Float[Tensor, "*shape"],
    beta: float,
    gamma: float = 1.0,
    eps: float = 0.0,
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return the interval [p̂ − r, p̂ + r] ∩ [0, 1] with r = √(γ max(V, ε)/β).

    With γ and ε of `conservative_factor` the true probability is outside with a probability of at most β over X. With
    γ = 1 and ε = 0 that is so for an exactly calibrated model, and for no other.

    Args:
        p: p̂.
        V: its variance; below ``eps`` it is taken for ``eps``.
        beta: in (0, 1).
        gamma: not negative.
        eps: not negative.

    Returns:
        Lower and upper ends, in the precision of ``p``.

    Raises:
        ValueError: if a value is out of its range or shapes differ.
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta must be in (0, 1), got {beta}")
    for name, value in (("gamma", gamma), ("eps", eps)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {value}")
    predicted, claimed = checked_probability("p", p), checked_variance(V, p)
    radius = (gamma / beta * claimed.clamp(min=eps)).sqrt()
    return (predicted - radius).clamp(min=0).to(p.dtype), (predicted + radius).clamp(max=1).to(p.dtype)


def _check_items(n: int, item_ids: Iterable[Hashable] | Tensor | None, used_ids: object) -> None:
    if item_ids is None:
        if used_ids is not None:
            raise ValueError("used_ids cannot be used without item_ids to be compared with, got none")
        return
    ids = _names(item_ids)
    if len(ids) != n:
        raise ValueError(f"item_ids must have one name for each of {n} items, got {len(ids)}")
    if len(set(ids)) < n:
        twice = next(name for name in ids if ids.count(name) > 1)
        raise ValueError(f"item_ids must be different, for pairs of one item are not independent, got {twice!r} twice")
    met = set(ids) & set(_names(used_ids))
    if met:
        first = next(name for name in ids if name in met)
        raise ValueError(
            f"calibration items must not have been used for training, got {len(met)} that were, such as {first!r}"
        )


def _names(ids: object) -> list[Hashable]:
    if ids is None:
        return []
    return ids.tolist() if hasattr(ids, "tolist") else list(ids)  # type: ignore[call-overload, no-any-return]


def _warn(p: Tensor, V: Tensor, y1: Tensor, y2: Tensor) -> None:
    # C = p²/(p² + V) > 1.05, without a division by what may be 0.
    over = (p.square() > 1.05 * (p.square() + V)) & (V < 0)
    low = V < -1e-3
    if bool(low.any()):
        warnings.warn(
            f"{int(low.sum())} of {len(V)} variances are below -0.001, the least {V.min().item():.3g}: the model is "
            "not calibrated where it is surest",
            stacklevel=3,
        )
    elif bool(over.any()):
        warnings.warn(
            f"{int(over.sum())} of {len(V)} confidences are above 1.05: the model is not calibrated where it is surest",
            stacklevel=3,
        )
    agree = float((y1 == y2).double().mean())
    if agree > 0.999:
        warnings.warn(
            f"the two responses agree in {100 * agree:.1f} % of the items: are they of the same annotator?",
            stacklevel=3,
        )


def _hoeffding(z: Tensor, eps: float, alpha: float) -> float:
    return float(z.mean()) + 1.25 / eps * math.sqrt(math.log(1 / alpha) / (2 * len(z)))


def _bernstein(z: Tensor, eps: float, alpha: float) -> float:
    n, log = len(z), math.log(2 / alpha)
    return float(z.mean()) + math.sqrt(2 * float(z.var()) * log / n) + 7 * (1.25 / eps) * log / (3 * (n - 1))


def _betting(z: Tensor, eps: float, alpha: float) -> float:
    """Return the least mean at which a fortune of 1 would have grown to 1/α by betting that the true one is lower.

    Against the mean m of x = z brought to [0, 1] the stake λ_t, chosen before x_t is seen, makes Π (1 − λ_t (x_t − m)),
    a martingale if m is the mean; by Ville's inequality it ever reaches 1/α with a probability of at most α. It grows
    with m, so the means that are left are an interval.
    """
    n = len(z)
    x = (z * eps + 0.25) / 1.25
    ahead = torch.arange(n, dtype=x.dtype)  # how many were seen before
    mean = (0.5 + x.cumsum(0)) / (ahead + 2)
    spread = (0.25 + (x - mean).square().cumsum(0)) / (ahead + 2)
    before = torch.cat([torch.tensor([0.25], dtype=x.dtype), spread[:-1]])
    stakes = (2 * math.log(1 / alpha) / (n * before)).sqrt().clamp(max=1)

    def reaches(m: float) -> bool:
        return float(torch.log1p(-stakes * (x - m)).cumsum(0).max()) >= math.log(1 / alpha)

    low, high = 0.0, 1.0
    if reaches(low):
        return -0.25 / eps
    for _ in range(35):  # to 3 · 10⁻¹¹
        middle = (low + high) / 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return (1.25 * high - 0.25) / eps
