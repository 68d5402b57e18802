"""How large a batch has to be for its gradient to be as exact as asked: four tests on per-example gradients.

With g_i the gradients of single examples, ḡ their mean over a batch of b, V their covariance, variances unbiased:

    norm           E‖ḡ − ∇F‖² ≤ η²‖∇F‖²                    b ≥ tr V / (η²‖ḡ‖²)
    inner          variance of ⟨ḡ, ∇F⟩ ≤ ϑ²‖∇F‖⁴            b ≥ Var⟨g_i, ḡ⟩ / (ϑ²‖ḡ‖⁴)
    orthogonal     that of what is orthogonal to ∇F          b ≥ (tr V − Var⟨g_i, ḡ⟩/‖ḡ‖²) / (ν²‖ḡ‖²)
    augmented      inner and orthogonal                      the larger of the two
    coordinate     V_j/b ≤ η²ḡ_j² for every coordinate       b ≥ max_j V_j / (η²ḡ_j²)

A batch passes where it is at least that large. η is a relative error of the gradient: half of it takes four times the
batch. The first four are the same in every basis. They are meant for all trained parameters together; computed tensor
by tensor and added up, as the authors' program does, the middle three are something else. The coordinate test is ruled
by the coordinates where ḡ_j is near zero: a quantile over coordinates, or a floor below ḡ_j², makes it practical, and
another test.

R. Byrd, G. Chin, J. Nocedal and Y. Wu, "Sample Size Selection in Optimization Methods for Machine Learning", 2012; R.
Bollapragada, R. Byrd and J. Nocedal, "Adaptive Sampling Strategies for Stochastic Optimization", 2018; T. Lau, H. Liu
and M. Kolar, "AdAdaGrad: Adaptive Batch Size Schemes for Adaptive Gradient Methods", arXiv 2402.11215.
"""

from __future__ import annotations

import math
from typing import Literal, get_args

from aleator.gradients import GradStats, TraceStats

BatchTest = Literal["norm", "inner", "orthogonal", "augmented", "coordinate"]


def required_batch_size(
    stats: GradStats | TraceStats,
    test: BatchTest = "norm",
    eta: float = 0.5,
    theta: float = 0.5,
    nu: float = 1.0,
    *,
    floor: float = 0.0,
    quantile: float = 1.0,
) -> float:
    """Return the batch size that a test asks for, before it is rounded up; infinite where ḡ is zero and noise is not.

    A knob that the test does not use is ignored. Not-a-number statistics give not a number.

    Args:
        stats: of the batch.
        test: which.
        eta: η of ``"norm"`` and ``"coordinate"``, positive.
        theta: ϑ of ``"inner"`` and ``"augmented"``, positive.
        nu: ν of ``"orthogonal"`` and ``"augmented"``, positive.
        floor: of ``"coordinate"``: ḡ_j² is at least this.
        quantile: of ``"coordinate"``, over the coordinates that have noise; 1 is the largest.

    Raises:
        ValueError: if the test is unknown, a knob out of range, or the statistics lack what the test needs.
    """
    return max(quotient(above, below) for above, below in terms(stats, test, eta, theta, nu, floor, quantile))


def terms(
    stats: GradStats | TraceStats,
    test: BatchTest,
    eta: float,
    theta: float,
    nu: float,
    floor: float = 0.0,
    quantile: float = 1.0,
) -> list[tuple[float, float]]:
    """Return what is divided in a test: pairs of a noise and of what the gradient allows."""
    check_test(test, eta, theta, nu, floor, quantile)
    square = stats.mean_sq_norm
    if test == "norm":
        return [(stats.trace, eta**2 * square)]
    if isinstance(stats, TraceStats):
        raise ValueError(f"test must be 'norm' where only the trace of the noise is known, got {test!r}")
    if test == "coordinate":
        return [_coordinate(stats, eta, floor, quantile)]
    if stats.inner is None:
        raise ValueError(f"stats must have inner products for the test {test!r}, got None")
    along = float(stats.inner.double().var())
    inner = (along, theta**2 * square**2)
    if test == "inner":
        return [inner]
    # Of s = b examples this is the variance of the residuals about their mean, which is zero then.
    across = stats.trace - (along / square if square > 0 else 0.0)
    orthogonal = (across if not across < 0 else 0.0, nu**2 * square)
    return [orthogonal] if test == "orthogonal" else [inner, orthogonal]


def _coordinate(stats: GradStats, eta: float, floor: float, quantile: float) -> tuple[float, float]:
    if stats.second_moment is None or stats.mean is None:
        raise ValueError("stats must have second_moment and mean for the test 'coordinate', got None")
    s = len(stats.sq_norms)
    own = stats.mean if stats.sub_mean is None else stats.sub_mean
    variance = (stats.second_moment.double() - own.double().square()) * (s / (s - 1))
    # What rounding leaves of a coordinate that does not vary is no noise.
    noisy = variance > 1e-12 * stats.second_moment
    if not noisy.any():
        return (math.nan, 1.0) if bool(variance.isnan().any()) else (0.0, 1.0)
    needed = (variance / stats.mean.double().square().clamp(min=floor))[noisy] / eta**2
    if quantile == 1:
        return float(needed.max()), 1.0
    rank = max(math.ceil(quantile * len(needed)), 1)  # torch.quantile has a limit of 2^24 entries
    return float(needed.kthvalue(rank).values), 1.0


def quotient(above: float, below: float) -> float:
    """Return what a test asks for: 0 where there is neither noise nor gradient, infinity where there is only noise."""
    if below > 0:
        return above / below
    if math.isnan(above) or math.isnan(below):
        return math.nan
    return math.inf if above > 0 else 0.0


def check_test(test: str, eta: float, theta: float, nu: float, floor: float = 0.0, quantile: float = 1.0) -> None:
    """Check a test and its knobs.

    Raises:
        ValueError: naming what is out of range.
    """
    if test not in get_args(BatchTest):
        raise ValueError(f"test must be one of {', '.join(map(repr, get_args(BatchTest)))}, got {test!r}")
    for name, value in (("eta", eta), ("theta", theta), ("nu", nu)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if not 0 <= floor < math.inf:
        raise ValueError(f"floor must be finite and not negative, got {floor}")
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be in (0, 1], got {quantile}")
