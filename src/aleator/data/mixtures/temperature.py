"""Temperature sampling: in what proportion domains of very different size are shown, and what weights say the same.

A training set is a union of K domains (languages, sources) with sizes n_i, N = Σ n_i. Temperature sampling draws

    p_i(τ) = n_i^{1/τ} / Σ_j n_j^{1/τ}      τ = 1: in proportion to size, τ → ∞: uniformly over domains

and scalarization draws in proportion to size and multiplies the loss by w_i = p_i(τ) / p_i(1). Both have the same
expected gradient. The weights' second moment under proportional sampling

    F(τ) = Σ_i p_i(τ)² / p_i(1) = E[w²] ≥ 1

is the factor by which scalarization's second moment exceeds temperature sampling's *if* gradients are equally large in
all domains. Where they are not, the order may be the other way round: see `aleator.gradients`.

T. Li, H. Xu, W. Tan, K. Murray, D. Khashabi, "Upsample or Upweight? Balanced Training on Heavily Imbalanced Datasets",
NAACL 2025, arXiv 2410.04579, section 2.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Vector = Sequence[float] | Array


def temperature_probabilities(sizes: Vector, temperature: float) -> Array:
    """Return p(τ), a softmax of ln(n) / τ; empty domains get 0 at every temperature.

    Args:
        sizes: n_i, one for each domain, not negative and not all zero, in any unit.
        temperature: τ > 0. Below 1 large domains are shown more than in proportion; ``inf`` is uniform.

    Returns:
        K probabilities that sum to 1.

    Raises:
        ValueError: if a size or the temperature is out of range.
    """
    n = checked_sizes(sizes)
    checked_temperature(temperature)
    filled = n > 0
    logits = np.log(n[filled])
    with np.errstate(over="ignore"):  # at a tiny temperature all but the largest are −∞, and get 0
        weights = np.exp((logits - logits.max()) / temperature)
    probabilities = np.zeros(len(n))
    probabilities[filled] = weights / weights.sum()
    return probabilities


def scalarization_weights(probabilities: Vector, sizes: Vector) -> Array:
    """Return w_i = p_i / (n_i / N), the loss weights that stand for sampling with p; 0 for empty domains.

    Args:
        probabilities: p, one for each domain, such as `temperature_probabilities` returns.
        sizes: n_i.

    Raises:
        ValueError: if a size is out of range, or there are not as many sizes as probabilities.
    """
    n = checked_sizes(sizes)
    p = np.asarray(probabilities, np.float64)
    if p.shape != n.shape:
        raise ValueError(f"probabilities must have one entry for each of the {len(n)} sizes, got shape {p.shape}")
    weights = np.zeros(len(n))
    np.divide(p, n / n.sum(), out=weights, where=n > 0)
    return weights


def variance_factor(probabilities: Vector, sizes: Vector) -> float:
    """Return F = Σ p_i² / (n_i / N), at least 1, and 1 exactly where p is proportional to size (section 2, Theorem 2).

    Raises:
        ValueError: as `scalarization_weights`.
    """
    return float(np.asarray(probabilities, np.float64) @ scalarization_weights(probabilities, sizes))


def checked_sizes(sizes: Vector) -> Array:
    """Return sizes as an array of floats.

    Raises:
        ValueError: if there is none, one is negative or not finite, or all are zero.
    """
    n = np.asarray(sizes, np.float64)
    if n.ndim != 1 or n.size == 0:
        raise ValueError(f"sizes must be one number for each domain, got shape {n.shape}")
    for wrong in n[~(np.isfinite(n) & (n >= 0))]:
        raise ValueError(f"sizes must be finite and not negative, got {wrong:g}")
    if not n.any():
        raise ValueError(f"sizes must have at least one positive entry, got {n.tolist()}")
    return n


def checked_temperature(temperature: float) -> float:
    """Return the temperature.

    Raises:
        ValueError: if it is not positive.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be positive, got {temperature:g}")
    return temperature
