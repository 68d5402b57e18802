"""What a batch does to the extreme eigenvalues of the curvature: they move outwards.

The Hessian of a batch of B of N examples is H + E. With E of independent entries of variance σ²/b, 1/b = 1/B − 1/N, and
c = Pσ², an eigenvalue λ of H is seen as

    λ' = λ + c/(bλ)    if |λ| > √(c/b),    else lost in the noise, whose edge is at ±2√(c/b)

and the squared overlap of the two eigenvectors is 1 − c/(bλ²), or 0. This is the paper's theorem for additive noise.
For Gauss-Newton matrices, sample covariances with P/B = q and noise σ² in the bulk, here a reconstruction,

    λ' = λ (1 + qσ²/(λ − σ²))    if λ > σ²(1 + √q),    else σ²(1 + √q)².

Real noise is of low rank, and the c that Pσ² gives is 10 to 100 times too small. The 1/B law holds all the same, so c
is fitted: the slope of λ' in 1/b is c/λ.

D. Granziol, S. Zohren and S. Roberts, "Learning Rates as a Function of Batch Size: A Random Matrix Theory Approach to
Neural Network Training", JMLR 23, 2022, arXiv 2006.09092.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch

from aleator.optim.curvature.lanczos import SymmetricMatrix, lanczos
from aleator.optim.scaling import effective_batch


class Broadening(NamedTuple):
    """What `fit_broadening` found.

    Attributes:
        lmbda: λ, the largest eigenvalue of the whole data's matrix.
        c: ready for `broadened`, `max_lr` and `min_damping`: λ times the slope of λ' in 1/b.
        stderr: standard error of c.
    """

    lmbda: float
    c: float
    stderr: float


def broadened(lmbda: float, c: float, batch: float, n: int | None = None) -> float:
    """Return λ', the eigenvalue that a batch's Hessian has for λ, or the edge of the noise that hides it.

    Args:
        lmbda: λ, of either sign; 0 has the upper edge.
        c: Pσ², or from `fit_broadening`.
        batch: B.
        n: N; None for a stream.

    Raises:
        ValueError: if ``c`` is negative, or the batch out of range.
    """
    noise = _noise(c, batch, n)
    if abs(lmbda) > math.sqrt(noise):
        return lmbda + noise / lmbda
    return math.copysign(2 * math.sqrt(noise), lmbda if lmbda else 1.0)


def overlap(lmbda: float, c: float, batch: float, n: int | None = None) -> float:
    """Return the squared overlap of a batch's eigenvector with that of the whole data; 0 where it is lost.

    Args:
        lmbda: as of `broadened`.
        c: the same.
        batch: the same.
        n: the same.

    Raises:
        ValueError: as `broadened`.
    """
    noise = _noise(c, batch, n)
    return 1 - noise / lmbda**2 if abs(lmbda) > math.sqrt(noise) else 0.0


def broadened_ggn(lmbda: float, variance: float, ratio: float) -> float:
    """Return λ' of a sample covariance, such as a batch's Gauss-Newton matrix, or the edge of its bulk.

    Args:
        lmbda: λ of the whole, not negative.
        variance: σ² of the bulk.
        ratio: q, the dimension over the batch.

    Raises:
        ValueError: if a value is negative.
    """
    for name, value in (("lmbda", lmbda), ("variance", variance), ("ratio", ratio)):
        if not 0 <= value < math.inf:
            raise ValueError(f"{name} must be finite and not negative, got {value}")
    if lmbda > variance * (1 + math.sqrt(ratio)):
        return lmbda * (1 + ratio * variance / (lmbda - variance))
    return variance * (1 + math.sqrt(ratio)) ** 2


def fit_broadening(
    op_factory: Callable[[int], SymmetricMatrix],
    batch_sizes: Sequence[int],
    draws: int = 4,
    n: int | None = None,
    *,
    steps: int = 20,
    generator: torch.Generator,
) -> Broadening:
    """Return λ and c from the largest eigenvalues of batches of several sizes, by least squares in 1/b.

    Every eigenvalue is weighted by 1/λ'², that is for an equal relative error. The law bends below batches of about
    16, which lifts λ: use larger ones. Eigenvalues are never averaged before they are taken.

    Args:
        op_factory: returns the matrix of another batch of the given size at every call.
        batch_sizes: at least two different ones.
        draws: batches of each size, at least 2.
        n: N; None for a stream.
        steps: of Lanczos' algorithm.
        generator: draws the probes.

    Raises:
        ValueError: if there are fewer than two sizes or draws, or a size is out of range.
        CurvatureError: if a curvature is not finite.
    """
    if len(set(batch_sizes)) < 2:
        raise ValueError(f"batch_sizes must hold at least two different ones, got {list(batch_sizes)}")
    if draws < 2:
        raise ValueError(f"draws must be at least 2, got {draws}")
    x = [1 / effective_batch(size, n, "batch_sizes") for size in batch_sizes]
    tops = [
        [float(lanczos(op_factory(size), steps, generator=generator).ritz()[0][-1]) for _ in range(draws)]
        for size in batch_sizes
    ]
    return broadening_of(x, tops)


def broadening_of(inverse_batches: Sequence[float], tops: Sequence[Sequence[float]]) -> Broadening:
    """Return λ and c from largest eigenvalues that are known; see `fit_broadening`.

    Args:
        inverse_batches: 1/b of each size.
        tops: the largest eigenvalues of batches of that size.

    Raises:
        ValueError: if an eigenvalue is not positive.
    """
    x = np.repeat(np.asarray(inverse_batches, dtype=np.float64), [len(row) for row in tops])
    y = np.concatenate([np.asarray(row, dtype=np.float64) for row in tops])
    if not (y > 0).all():
        raise ValueError(f"the largest eigenvalue of every batch must be positive, got {y.min():g}")
    weights = np.repeat([1 / np.mean(row) for row in tops], [len(row) for row in tops])
    design = np.stack([np.ones_like(x), x], axis=1) * weights[:, None]
    solution, *_ = np.linalg.lstsq(design, y * weights, rcond=None)
    lmbda, slope = map(float, solution)
    left = y * weights - design @ solution
    covariance = np.linalg.inv(design.T @ design) * (left @ left / max(len(y) - 2, 1))
    gradient = np.array([slope, lmbda])  # of c = λ · slope
    stderr = math.sqrt(max(float(gradient @ covariance @ gradient), 0.0))
    if lmbda <= math.sqrt(max(lmbda * slope * max(inverse_batches), 0.0)):
        warnings.warn(
            f"at the smallest batch the eigenvalue {lmbda:.3g} is below the noise: there λ' goes as 1/√B, and a slope "
            "in 1/B means little; use larger batches",
            stacklevel=3,
        )
    return Broadening(lmbda, lmbda * slope, stderr)


def _noise(c: float, batch: float, n: int | None) -> float:
    if not 0 <= c < math.inf:
        raise ValueError(f"c must be finite and not negative, got {c}")
    return c / effective_batch(batch, n)
