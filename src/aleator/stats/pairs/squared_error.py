"""The squared error of a probability, (p(y | x) − p̂(y | x))², estimated without bias from a few responses.

From two independent responses of one input, and from n labels with counts c,

    e = (1[y₁ = y] − p̂)(1[y₂ = y] − p̂)              e = p̂² − 2p̂ c/n + c(c − 1)/(n(n − 1))

both have mean (p − p̂)². The second is the mean of the first over all ordered pairs of different labels. Single values
can be negative. With (c/n)² in place of c(c − 1)/(n(n − 1)) the noise of the labels would count as error of the model.

D. D. Johnson et al., arXiv 2402.08733, section 4 and its appendix on CIFAR-10H.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def pair_squared_error(
    p: Float[Tensor, "items ..."],
    *,
    p_true: Float[Tensor, "items ..."] | None = None,
    counts: Tensor | None = None,
    pairs: tuple[Tensor, Tensor] | None = None,
) -> Float[Tensor, "items ..."]:
    """Return the squared error of each probability, or an unbiased estimate of it, in float64.

    Exactly one of the three says what is true.

    Args:
        p: p̂, predicted probabilities: of all K labels of every item, or of one scored label of each.
        p_true: the true probabilities.
        counts: how often each label was given, whole numbers of shape [items, K], at least two for each item; for p of
            all labels.
        pairs: two responses of every item, each of shape [items]: labels in [0, K) where p is of all labels; where p is
            of one, 0 or 1, whether the response is that label.

    Raises:
        ValueError: if not exactly one truth is given, shapes do not fit, or a value is out of its range.
    """
    predicted = checked_probability("p", p)
    given = [name for name, value in (("p_true", p_true), ("counts", counts), ("pairs", pairs)) if value is not None]
    if len(given) != 1:
        raise ValueError(f"exactly one of p_true, counts and pairs must be given, got {' and '.join(given) or 'none'}")
    if p_true is not None:
        _same_shape("p_true", p_true, p)
        return (checked_probability("p_true", p_true) - predicted).square()
    if counts is not None:
        _same_shape("counts", counts, p)
        return _from_counts(predicted, counts)
    assert pairs is not None
    first, second = (_indicator(name, y, p) for name, y in zip(("y1", "y2"), pairs, strict=True))
    return (first - predicted) * (second - predicted)


def checked_probability(name: str, values: Tensor) -> Float[Tensor, "*shape"]:
    """Return probabilities in float64.

    Raises:
        ValueError: if one is outside [0, 1] by more than rounding, or not a number.
    """
    exact = values.double()
    wrong = exact[~((exact >= -1e-6) & (exact <= 1 + 1e-6))]
    if len(wrong):
        raise ValueError(f"{name} must be in [0, 1], got {wrong[0].item():g}")
    return exact


def _from_counts(p: Tensor, counts: Tensor) -> Tensor:
    if p.ndim < 2:
        raise ValueError(f"counts must be of all labels of every item, [items, K], got shape {tuple(counts.shape)}")
    c = counts.double()
    wrong = c[~((c >= 0) & (c == c.round()))]
    if len(wrong):
        raise ValueError(f"counts must be whole numbers that are not negative, got {wrong[0].item():g}")
    n = c.sum(-1, keepdim=True)
    if bool((n < 2).any()):
        raise ValueError(f"counts must have at least two responses for each item, got {n.min().item():g}")
    return p.square() - 2 * p * c / n + c * (c - 1) / (n * (n - 1))


def _indicator(name: str, y: Tensor, p: Tensor) -> Tensor:
    """Return 1 where the response is the label, in the shape of p."""
    if y.shape != p.shape[:1]:
        raise ValueError(f"{name} must have one response for each of {len(p)} items, got shape {tuple(y.shape)}")
    if p.ndim == 1:
        return checked_answer(name, y)
    labels = p.shape[-1]
    if y.is_floating_point() or y.dtype == torch.bool:
        raise ValueError(f"{name} must be whole numbers in [0, {labels}), got {y.dtype}")
    wrong = y[(y < 0) | (y >= labels)]
    if len(wrong):
        raise ValueError(f"{name} must be in [0, {labels}), got {wrong[0].item()}")
    return torch.nn.functional.one_hot(y.long(), labels).double()


def checked_answer(name: str, y: Tensor) -> Float[Tensor, " items"]:
    """Return 0s and 1s in float64.

    Raises:
        ValueError: if a value is neither.
    """
    answers = y.double()
    wrong = answers[(answers != 0) & (answers != 1)]
    if len(wrong):
        raise ValueError(f"{name} must be 0 or 1, whether the response is the scored label, got {wrong[0].item():g}")
    return answers


def _same_shape(name: str, values: Tensor, p: Tensor) -> None:
    if values.shape != p.shape:
        raise ValueError(f"{name} must have the shape of p, {tuple(p.shape)}, got {tuple(values.shape)}")
