"""Measures of how rich a class of functions is on n examples, which the uniform bounds of learning theory are made of.

    Sauer–Shelah      a class of VC dimension d labels n points in at most Σ_{i≤d} C(n, i) ways
    Rademacher        E max_f (1/n) Σ σᵢ f(xᵢ),  σᵢ = ±1 at random
    Massart           the same is at most max_f ‖f‖₂ √(2 ln m)/n for m functions, given by their values on the examples

There is no absolute value and no factor 2 in this Rademacher complexity. Sauer, Journal of Combinatorial Theory A 13,
1972; Bartlett and Mendelson, JMLR 3, 2002; Massart, Annales de la Faculté des Sciences de Toulouse 9, 2000.
"""

from __future__ import annotations

import math
from typing import SupportsIndex

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.stats.certify.certificate import checked_count

_SIGNS_AT_ONCE = 2**22


def sauer_shelah(n: SupportsIndex, d: SupportsIndex) -> int:
    """Return Σ_{i≤d} C(n, i), exactly; 2ⁿ from d = n on.

    Raises:
        ValueError: if n or d is negative or not whole.
    """
    n, d = checked_count("n", n, 0), checked_count("d", d, 0)
    return sum(math.comb(n, i) for i in range(min(n, d) + 1))


def massart_bound(values: Float[Tensor, "m n"]) -> float:
    """Return max ‖f‖₂ √(2 ln m)/n over m functions given by their values on n examples.

    Raises:
        ValueError: if there is no function, no example, or a value is not finite.
    """
    m, n = _checked(values)
    longest = float(torch.linalg.vector_norm(values.double(), dim=1).max())
    return longest * math.sqrt(2 * math.log(m)) / n


def empirical_rademacher(
    values: Float[Tensor, "m n"], draws: SupportsIndex = 1000, *, generator: torch.Generator
) -> float:
    """Return a Monte Carlo estimate of E max_f (1/n) Σ σᵢ f(xᵢ) over m functions.

    Args:
        values: of the functions on the examples.
        draws: sign vectors, at least 1. The estimate's standard error is at most max ‖f‖₂/n · √(2/draws).
        generator: for the signs, on the device of the values.

    Raises:
        ValueError: if there is no function, no example, no draw, or a value is not finite.
    """
    _, n = _checked(values)
    draws = checked_count("draws", draws, 1)
    functions = values.double().T
    at_once = max(1, _SIGNS_AT_ONCE // n)
    total = 0.0
    for start in range(0, draws, at_once):
        shape = (min(at_once, draws - start), n)
        signs = torch.randint(2, shape, generator=generator, device=values.device).double() * 2 - 1
        total += float((signs @ functions).amax(1).sum())
    return total / (n * draws)


def _checked(values: Tensor) -> tuple[int, int]:
    m, n = values.shape
    if m < 1 or n < 1:
        raise ValueError(f"values must have at least one function and one example, got shape {(m, n)}")
    if not bool(values.isfinite().all()):
        raise ValueError("values must be finite")
    return m, n
