"""The power law of a learning curve, fitted so that no better one exists.

A learner trained on x examples scores about

    A(x) = c − a·x^(−b),      a > 0, b > 0,

which rises, bends down and stays below its asymptote c. For a fixed b the law is linear in (a, c), so the sum of
squared errors is a function of b alone (variable projection; Golub and Pereyra, SIAM J. Numer. Anal. 10, 1973). It is
evaluated at 400 values of b, spaced evenly in log b; the best of them is then moved to the root of dSSE/db in its
bracket. There is no first guess and nothing that can fail to converge, and a thousand curves are fitted in one call.

The family and the anchor are from Vilares Ferro, Darriba Bilbao and Ribadas Pena, Modeling of learning curves with
applications to POS tagging, Computer Speech & Language 41, 2017 (arXiv 2402.02515). They fit by a trust-region method;
this way of fitting is ours.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from jaxtyping import Bool, Float
from numpy.typing import ArrayLike

GRID = 400  # values of b
# The bracket of the grid is 0.02 wide in log b for the default bounds; 40 halvings leave 2e-14.
HALVINGS = 40
CHUNK = 2**18  # numbers in the largest temporary array, which then fits a cache

Sizes = Float[np.ndarray, "..."]
Curves = Float[np.ndarray, "curves levels"]
PerCurve = Float[np.ndarray, " curves"]


@dataclass(frozen=True)
class PowerLaw:
    """The law c − a·x^(−b) that fits one curve best.

    Attributes:
        a: amplitude, in the unit of the score times the unit of x to the power b.
        b: exponent.
        c: the asymptote, in the unit of the score. Without meaning where a flag says so.
        sse: the weighted sum of squared residuals, the anchor's included.
        flags: ``"not_increasing"``: the best a is not positive, the scores do not rise. ``"no_asymptote"``: b sits at
            its lower bound, the curve looks logarithmic and c is arbitrary. ``"flat"``: all scores are equal, a is 0.
    """

    a: float
    b: float
    c: float
    sse: float
    flags: tuple[str, ...] = ()

    @overload
    def predict(self, x: float) -> float: ...

    @overload
    def predict(self, x: Sizes) -> Sizes: ...

    def predict(self, x: Any) -> Any:
        """Return the law's value at the sizes x > 0; infinity gives the asymptote."""
        return self.c - self.a * x**-self.b

    def size_for(self, target: float) -> float:
        """Return the x at which the law reaches ``target``, infinity where it never does."""
        return float(_size_for(np.float64(self.a), np.float64(self.b), np.float64(self.c), target))


@dataclass(frozen=True)
class PowerLaws:
    """The laws of many curves, with the attributes of `PowerLaw`, one number for each curve."""

    a: PerCurve
    b: PerCurve
    c: PerCurve
    sse: PerCurve
    not_increasing: Bool[np.ndarray, " curves"]
    no_asymptote: Bool[np.ndarray, " curves"]
    flat: Bool[np.ndarray, " curves"]

    def __len__(self) -> int:
        return len(self.a)

    def __getitem__(self, curve: int) -> PowerLaw:
        flags = [name for name in ("not_increasing", "no_asymptote", "flat") if getattr(self, name)[curve]]
        a, b, c, sse = (float(values[curve]) for values in (self.a, self.b, self.c, self.sse))
        return PowerLaw(a, b, c, sse, tuple(flags))

    def predict(self, x: float) -> PerCurve:
        """Return the value of every law at one size x > 0; infinity gives the asymptotes."""
        values: PerCurve = self.c - self.a * np.float64(x) ** -self.b
        return values

    def size_for(self, target: float) -> PerCurve:
        """Return the x at which each law reaches ``target``, infinity where it never does."""
        sizes: PerCurve = _size_for(self.a, self.b, self.c, target)
        return sizes


def fit_power_law(
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    anchor: float | None = None,
    anchor_weight: float = 1.0,
    b_bounds: tuple[float, float] = (1e-3, 5.0),
) -> PowerLaw:
    """Return the power law with the least weighted sum of squared errors.

    Args:
        x: sizes, positive, at least three different ones, in any order; equal ones are all used.
        y: the score at each size; higher is better. A score that is not a number is dropped with a warning.
        weights: of the squared errors, not negative; 1 by default. The inverse variance of each score is a good choice:
            n_test / (A·(1 − A)) for an accuracy, or the inverse variance over the folds.
        anchor: a score at infinity that is added as one more observation (section 2.5 of our notes on the paper; its
            exact form in the paper was not available to us).
        anchor_weight: the weight of the anchor; 0 is the plain fit.
        b_bounds: range of the exponent.

    Raises:
        ValueError: if the lengths differ, a size is not positive, or fewer than three sizes are different.

    Example:
        >>> law = fit_power_law([1000, 2000, 4000, 8000], [0.7, 0.75, 0.785, 0.81])
        >>> round(law.predict(16000.0), 3)
        0.828
    """
    sizes, scores = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if sizes.ndim != 1 or sizes.shape != scores.shape:
        raise ValueError(f"x and y must be two lists of equal length, got shapes {sizes.shape} and {scores.shape}")
    if missing := int(np.isnan(scores).sum()):
        warnings.warn(f"{missing} of {len(scores)} scores are not numbers and are left out", stacklevel=2)
    return fit_power_laws(sizes, scores[None], weights, anchor, anchor_weight, b_bounds)[0]


def fit_power_laws(
    x: ArrayLike,
    y: ArrayLike,
    weights: ArrayLike | None = None,
    anchor: float | None = None,
    anchor_weight: float = 1.0,
    b_bounds: tuple[float, float] = (1e-3, 5.0),
) -> PowerLaws:
    """Fit many curves at once.

    Time is about 400 multiplications for each level of each curve, 0.2 s for 1 000 curves of 40 levels.

    Args:
        x: sizes of shape (levels,) for all curves, or (curves, levels).
        y: scores of shape (curves, levels). NaN where a curve has no score: curves may have different lengths.
        weights: of shape (levels,) or (curves, levels).
        anchor: as in `fit_power_law`, the same for every curve.
        anchor_weight: as in `fit_power_law`.
        b_bounds: as in `fit_power_law`.

    Raises:
        ValueError: as `fit_power_law`.
    """
    low, high = b_bounds
    if not 0 < low < high < np.inf:
        raise ValueError(f"b_bounds must be two increasing positive numbers, got {b_bounds}")
    if anchor is not None and not (np.isfinite(anchor) and 0 <= anchor_weight < np.inf):
        raise ValueError(f"anchor and anchor_weight must be finite, got {anchor} and {anchor_weight}")
    sizes, scores, importance = _checked(x, y, weights)
    first = np.min(np.where(importance > 0, sizes, np.inf), axis=1)
    # Where every curve has the same sizes, one row of logarithms serves them all.
    shared = np.asarray(x).ndim == 1
    log_z = np.log(sizes[:1] / np.min(sizes[:1])) if shared else np.log(sizes / first[:, None])
    unit = np.min(sizes[:1]) if shared else first
    if anchor is not None:  # at this size z^(−b) is zero in floating point for every b allowed
        log_z = np.pad(log_z, ((0, 0), (0, 1)), constant_values=1e3 / low)
        scores = np.pad(scores, ((0, 0), (0, 1)), constant_values=anchor)
        importance = np.pad(importance, ((0, 0), (0, 1)), constant_values=anchor_weight)
    step = max(1, CHUNK // (GRID * (1 if shared else log_z.shape[1])))
    b = np.concatenate(
        [
            _best_exponent(
                log_z if shared else log_z[i : i + step], scores[i : i + step], importance[i : i + step], b_bounds
            )
            for i in range(0, len(scores), step)
        ]
    )
    highest = np.max(np.where(importance > 0, scores, -np.inf), axis=1)
    lowest = np.min(np.where(importance > 0, scores, np.inf), axis=1)
    # 0.1 + 0.2 and 0.3 are the same score.
    flat = highest - lowest <= 2**-50 * np.maximum(np.abs(highest), np.abs(lowest))
    b = np.where(flat, low, b)
    mean = _row_sums(importance, scores) / np.sum(importance, axis=1)
    slope, residuals, decay = _linear_fit(log_z, scores - mean[:, None], importance, b)
    amplitude = np.where(flat, 0.0, -slope)
    return PowerLaws(
        a=amplitude * unit**b,
        b=b,
        c=mean + amplitude * _row_sums(importance, decay) / np.sum(importance, axis=1),
        sse=_row_sums(importance, np.where(flat[:, None], scores - mean[:, None], residuals) ** 2),
        not_increasing=~flat & (amplitude <= 0),
        no_asymptote=~flat & (amplitude > 0) & (b == low),
        flat=flat,
    )


def _checked(x: ArrayLike, y: ArrayLike, weights: ArrayLike | None) -> tuple[Curves, Curves, Curves]:
    """Return sizes, scores and weights of every curve; what is missing has weight 0."""
    sizes, scores = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if scores.ndim != 2 or sizes.shape not in (scores.shape, scores.shape[1:]):
        raise ValueError(f"x must have the shape of y or of one of its rows, got {sizes.shape} for {scores.shape}")
    sizes = np.broadcast_to(sizes, scores.shape)
    importance = np.ones(scores.shape) if weights is None else np.asarray(weights, dtype=np.float64)
    if importance.shape not in (scores.shape, scores.shape[1:]):
        raise ValueError(f"weights must have the shape of y or of one of its rows, got {importance.shape}")
    there = ~np.isnan(scores)
    importance = np.where(there, importance, 0.0)
    if not (np.all(np.isfinite(importance)) and np.all(importance >= 0)):
        raise ValueError("weights must be finite and not negative")
    if np.any(np.isinf(scores)):
        raise ValueError("y must be finite numbers, got an infinite one")
    used = importance > 0
    bad = used & ~((sizes > 0) & np.isfinite(sizes))
    if np.any(bad):
        raise ValueError(f"x must be positive and finite, got {sizes[bad][0]}")
    ordered = np.sort(np.where(used, sizes, np.nan), axis=1)  # NaN comes last and is larger than nothing
    distinct = np.sum(np.diff(ordered, prepend=-1.0) > 0, axis=1)
    if np.any(distinct < 3):
        raise ValueError(f"x must hold at least 3 different sizes, got {distinct.min()}")
    # What is left out may have no size, zero or below; such a one would spoil the logarithms of the others.
    return (
        np.where(used | (np.isfinite(sizes) & (sizes > 0)), sizes, np.nanmin(ordered)),
        np.where(there, scores, 0.0),
        importance,
    )


def _best_exponent(
    log_z: Float[np.ndarray, "rows levels"], y: Curves, weights: Curves, b_bounds: tuple[float, float]
) -> PerCurve:
    """Return the b with the least sum of squared errors of each curve."""
    grid = np.geomspace(*b_bounds, GRID)
    grid[[0, -1]] = b_bounds  # a bound that is the best is returned as it is
    y = y - (_row_sums(weights, y) / np.sum(weights, axis=1))[:, None]
    best = np.argmax(_explained(log_z, y, weights, grid), axis=1)
    at_best = grid[best]
    falls = _derivative(log_z, y, weights, at_best) < 0  # the minimum is to the right
    left = np.log(grid[np.where(falls, best, np.maximum(best - 1, 0))])
    right = np.log(grid[np.where(falls, np.minimum(best + 1, GRID - 1), best)])
    at_bound = left == right
    for _ in range(HALVINGS):
        middle = (left + right) / 2
        falls = _derivative(log_z, y, weights, np.exp(middle)) < 0
        left, right = np.where(falls, middle, left), np.where(falls, right, middle)
    refined = np.where(at_bound, at_best, np.exp((left + right) / 2))
    before, after = (_row_sums(weights, _linear_fit(log_z, y, weights, b)[1] ** 2) for b in (at_best, refined))
    return np.asarray(np.where(after <= before, refined, at_best))


def _explained(
    log_z: Float[np.ndarray, "rows levels"], y: Curves, weights: Curves, grid: Float[np.ndarray, " grid"]
) -> Float[np.ndarray, "curves grid"]:
    """Return what the best line in z^(−b) takes off the sum of squares of each curve, for every b of the grid.

    The weighted mean of y is zero, so this is its squared covariance with the basis over the variance of that.
    """
    # z^(−b) − 1 instead of z^(−b): the intercept takes the difference, and small b lose no digits.
    basis = np.expm1(-log_z[:, :, None] * grid)
    # Curves without weights and gaps have the same variances.
    rows = weights[:1] if len(log_z) == 1 and np.all(weights == weights[0]) else weights
    total = np.sum(rows, axis=1, keepdims=True)
    # Centred, at least about, so that the moments below do not cancel.
    pilot = rows / total if len(log_z) == len(rows) else np.mean(rows / total, axis=0, keepdims=True)
    basis -= pilot[:, None, :] @ basis

    def moment(of: Curves, values: Float[np.ndarray, "rows levels grid"]) -> Float[np.ndarray, "curves grid"]:
        return np.asarray(of @ values[0] if len(values) == 1 else (of[:, None, :] @ values)[:, 0])

    variance = moment(rows, basis**2) - moment(rows, basis) ** 2 / total
    return np.asarray(moment(weights * y, basis) ** 2 / np.maximum(variance, 1e-300))


def _linear_fit(
    log_z: Float[np.ndarray, "rows levels"], y: Curves, weights: Curves, b: PerCurve
) -> tuple[PerCurve, Curves, Curves]:
    """Fit y, whose weighted mean is zero, by slope·z^(−b) + intercept; return slope, residuals and z^(−b).

    Centring the basis before the projection is the QR factorisation of (1, z^(−b)).
    """
    basis = np.expm1(-b[:, None] * log_z)
    centred = basis - (_row_sums(weights, basis) / np.sum(weights, axis=1))[:, None]
    weighted = weights * centred
    slope = _row_sums(weighted, y) / _row_sums(weighted, centred)
    return slope, y - slope[:, None] * centred, basis + 1


def _derivative(log_z: Float[np.ndarray, "rows levels"], y: Curves, weights: Curves, b: PerCurve) -> PerCurve:
    """Return half of dSSE/db. The linear parameters are at their optimum, so only the basis moves with b."""
    slope, residuals, decay = _linear_fit(log_z, y, weights, b)
    return np.asarray(slope * _row_sums(weights * residuals, log_z * decay))


def _row_sums(a: Curves, b: Curves) -> PerCurve:
    """Return the sums of products of the rows."""
    return np.asarray(np.einsum("ij,ij->i", a, b))


def _size_for(a: Any, b: Any, c: Any, target: float) -> Any:
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        size = (a / (c - target)) ** (1 / b)
    return np.where((a > 0) & (c > target), size, np.inf)
