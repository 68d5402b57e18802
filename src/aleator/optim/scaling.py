"""What a learning rate becomes when the batch does.

A batch of B examples out of N, drawn without replacement, has the noise of b independent ones:

    1/b = 1/B − 1/N
    SGD     lr(B) = lr(B₀) b/b₀
    Adam    lr(B) = lr(B₀) √(b/b₀),    and with κ = b/b₀:    1 − β ↦ κ (1 − β),    ε ↦ ε/√κ

The linear rule ends where the curvature of the whole data limits the rate, hence ``cap``. D. Granziol, S. Zohren and
S. Roberts, "Learning Rates as a Function of Batch Size: A Random Matrix Theory Approach to Neural Network Training",
JMLR 23, 2022, arXiv 2006.09092; betas and ε: S. Malladi et al., "On the SDEs and Scaling Rules for Adaptive Gradient
Algorithms", NeurIPS 2022.
"""

from __future__ import annotations

import math
from typing import Literal


def effective_batch(batch: float, n: int | None = None, name: str = "batch") -> float:
    """Return b, the number of independent examples with a batch's noise: B/(1 − B/N), infinite for B = N.

    Args:
        batch: B, drawn without replacement.
        n: N, of the data set; None for a stream, or for drawing with replacement, where b = B.
        name: of the batch in messages.

    Raises:
        ValueError: if the batch is not positive, or above ``n``.
    """
    if not 0 < batch < math.inf:
        raise ValueError(f"{name} must be positive and finite, got {batch}")
    if n is None:
        return float(batch)
    if batch > n:
        raise ValueError(f"{name} must be at most n, {n}, got {batch}")
    return math.inf if batch == n else batch / (1 - batch / n)


def scale_lr(
    lr: float,
    b0: float,
    b: float,
    rule: Literal["sgd", "adam"] = "sgd",
    n: int | None = None,
    cap: float | None = None,
) -> float:
    """Return the learning rate for a batch of ``b`` examples, ``lr`` being that for ``b0``.

    Args:
        lr: at ``b0``.
        b0: B₀, in examples.
        b: B, in examples.
        rule: in proportion to the batch, for SGD, or to its square root, for Adam and LAMB.
        n: N; None for a stream.
        cap: the largest rate to return, such as `max_lr` of the whole data. With b = N it is needed.

    Raises:
        ValueError: if a batch is out of range, ``b0`` is all of the data, ``b`` is without a cap, or another value is
            out of range.

    Example:
        >>> scale_lr(0.1, 64, 256), scale_lr(0.001, 64, 256, "adam"), scale_lr(0.1, 64, 256, cap=0.3)
        (0.4, 0.002, 0.3)
    """
    if not lr >= 0:
        raise ValueError(f"lr must not be negative, got {lr}")
    if rule not in ("sgd", "adam"):
        raise ValueError(f"rule must be 'sgd' or 'adam', got {rule!r}")
    if cap is not None and not cap > 0:
        raise ValueError(f"cap must be positive, got {cap}")
    ratio = _ratio(b0, b, n)
    if ratio == math.inf:
        if cap is None:
            raise ValueError(f"cap must be given with a batch of all {n} examples, which has no noise, got None")
        return cap
    scaled = lr * (math.sqrt(ratio) if rule == "adam" else ratio)
    return scaled if cap is None else min(scaled, cap)


def scale_betas(
    betas: tuple[float, ...], eps: float, b0: float, b: float, n: int | None = None
) -> tuple[tuple[float, ...], float]:
    """Return Adam's decay rates and ε for a batch of ``b`` examples, beside the learning rate by the square root.

    Args:
        betas: at ``b0``.
        eps: at ``b0``.
        b0: B₀, in examples.
        b: B, in examples.
        n: N; None for a stream.

    Raises:
        ValueError: if a batch is out of range, or so much larger that a running mean would forget everything in a step.

    Example:
        >>> betas, eps = scale_betas((0.9, 0.999), 1e-8, 64, 256)
        >>> round(betas[0], 3), round(betas[1], 3), eps
        (0.6, 0.996, 5e-09)
    """
    ratio = _ratio(b0, b, n)
    for beta in betas:
        if not 0 <= beta < 1:
            raise ValueError(f"betas must be in [0, 1), got {betas}")
        if ratio * (1 - beta) > 1:
            raise ValueError(f"b must be at most {1 / (1 - beta):.4g} times b0 with a beta of {beta}, got {ratio:.4g}")
    return tuple(1 - ratio * (1 - beta) for beta in betas), eps / math.sqrt(ratio)


def _ratio(b0: float, b: float, n: int | None) -> float:
    of_b0, of_b = effective_batch(b0, n, "b0"), effective_batch(b, n, "b")
    if of_b0 == math.inf:
        raise ValueError(f"b0 must be below n, {n}: a batch of all examples has no noise to scale from, got {b0}")
    return of_b / of_b0
