"""Calibration of the first order, of a probability, and of the second, of the variance that a model claims for it.

    ECE-1 = Σ_bins |Σ 1[correct] − Σ p̂| / N           one scored label for each item, bins by p̂
    ECE-2 = Σ_bins |Σ e − Σ V| / N                    all N = items × labels entries, bins by raw V

where e is the squared error of p̂ or an unbiased estimate of it (`pair_squared_error`). Bins are runs of the entries in
a stable ascending order, whose sizes differ by at most one, longer ones first. The signed gap, mean e − mean V, says
in which direction: above 0 the model is overconfident.

D. D. Johnson et al., arXiv 2402.08733, section 5.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.stats.pairs.squared_error import checked_probability, pair_squared_error


def ece1(p: Float[Tensor, " items"], correct: Tensor, bins: int = 20) -> float:
    """Return the expected calibration error of probabilities.

    Args:
        p: p̂ of one scored label for each item, such as the likeliest.
        correct: whether the response of the item was that label; or the share of several responses that were.
        bins: number of bins, at least 1.

    Raises:
        ValueError: if there is no item, shapes differ, or a value is out of its range.
    """
    if p.ndim != 1 or p.shape != correct.shape:
        raise ValueError(
            f"p and correct must have one value for each item, got shapes {tuple(p.shape)} and {tuple(correct.shape)}"
        )
    return _binned(checked_probability("p", p), checked_probability("correct", correct), p, bins)


def ece2(
    p: Float[Tensor, "items ..."],
    V: Float[Tensor, "items ..."],
    *,
    p_true: Float[Tensor, "items ..."] | None = None,
    counts: Tensor | None = None,
    pairs: tuple[Tensor, Tensor] | None = None,
    bins: int = 20,
) -> float:
    """Return the expected calibration error of epistemic variances.

    Args:
        p: p̂, of all labels of every item or of one.
        V: the variance claimed for each, raw or clipped.
        p_true: the truth, see `pair_squared_error`.
        counts: the truth, see `pair_squared_error`.
        pairs: the truth, see `pair_squared_error`.
        bins: number of bins, at least 1.

    Raises:
        ValueError: if there is no item, shapes differ, or a value is out of its range.
    """
    claimed = checked_variance(V, p)
    error = pair_squared_error(p, p_true=p_true, counts=counts, pairs=pairs)
    return _binned(claimed.flatten(), error.flatten(), V.flatten(), bins)


def signed_gap(
    p: Float[Tensor, "items ..."],
    V: Float[Tensor, "items ..."],
    *,
    p_true: Float[Tensor, "items ..."] | None = None,
    counts: Tensor | None = None,
    pairs: tuple[Tensor, Tensor] | None = None,
) -> float:
    """Return mean squared error minus mean claimed variance; above 0 the model is overconfident.

    Arguments and errors as for `ece2`.
    """
    claimed = checked_variance(V, p)
    error = pair_squared_error(p, p_true=p_true, counts=counts, pairs=pairs)
    return float((error - claimed).mean())


def checked_variance(V: Tensor, p: Tensor) -> Float[Tensor, "*shape"]:
    """Return variances in float64.

    Raises:
        ValueError: if there is none, they have not the shape of p, or one is outside [−1, 1] or not a number.
    """
    if V.shape != p.shape:
        raise ValueError(f"V must have the shape of p, {tuple(p.shape)}, got {tuple(V.shape)}")
    if V.numel() == 0:
        raise ValueError("p and V must hold at least one item, got none")
    exact = V.double()
    wrong = exact[~(exact.abs() <= 1 + 1e-6)]
    if len(wrong):
        raise ValueError(f"V must be in [-1, 1], got {wrong[0].item():g}")
    return exact


def _binned(claimed: Tensor, found: Tensor, key: Tensor, bins: int) -> float:
    if bins < 1:
        raise ValueError(f"bins must be at least 1, got {bins}")
    if len(claimed) == 0:
        raise ValueError("p must hold at least one item, got none")
    order = key.argsort(stable=True)
    excess = (found - claimed)[order]
    return float(torch.stack([part.sum() for part in excess.tensor_split(bins)]).abs().sum() / len(excess))
