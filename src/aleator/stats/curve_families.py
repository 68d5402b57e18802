"""Other shapes of learning curves, to see on the data at hand whether the power law is a good one.

    pow3   c − a·x^(−b)                     the law of the method
    pow4   c − a·(x + d)^(−b)               a power law that starts late
    mmf4   c − a / (1 + x^d / b)            Morgan–Mercer–Flodin, a sigmoid
    exp3   c − a·exp(−b·x)
    log2   c + a·log(x)                     no asymptote
    last1  c                                the last score: the trivial forecast

All are linear in (a, c), so their other parameters are found like the power law's: a scan of a grid, and a search from
its best point. A family is chosen by the error on the tail of the curve, which its fit does not see.

The names and forms are from LCDB (Mohr, Viering, Loog and van Rijn, LCDB 1.0, ECML PKDD 2022), with its parameters
renamed so that c is what is approached; the way of fitting and of choosing is ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from aleator.stats.power_law import fit_power_law

Sizes = Float[np.ndarray, " sizes"]
Values = Float[np.ndarray, "..."]

# The part of each family that is not linear: y = c − a·basis(z; parameters), with z = x/x_1 and these ranges.
_BASES: dict[str, tuple[Callable[..., Sizes], dict[str, tuple[float, float]]]] = {
    "pow4": (lambda z, b, d: (z + d) ** -b, {"b": (1e-3, 5.0), "d": (1e-3, 1e3)}),
    "mmf4": (lambda z, b, d: 1 / (1 + z**d / b), {"b": (1e-3, 1e3), "d": (1e-2, 5.0)}),
    "exp3": (lambda z, b: np.exp(-b * z), {"b": (1e-4, 10.0)}),
    "log2": (lambda z: -np.log(z), {}),
}
FAMILIES = ("pow3", *_BASES, "last1")

_TAIL = 0.25  # of the levels


@dataclass(frozen=True)
class FamilyFit:
    """A curve of one family.

    Attributes:
        family: its name.
        parameters: by the letters of the module's formulas, for sizes in units of the smallest x.
        unit: the smallest x.
        sse: the sum of squared residuals.
        tail_error: the mean absolute error on the tail of a fit that did not see it; None if that was not asked for.
    """

    family: str
    parameters: Mapping[str, float]
    unit: float
    sse: float
    tail_error: float | None = None

    def predict(self, x: ArrayLike) -> Values:
        """Return the curve's value at the sizes x."""
        z = np.asarray(x, dtype=np.float64) / self.unit
        p = dict(self.parameters)
        a, c = p.pop("a", 0.0), p.pop("c")
        if self.family == "last1":
            return np.full(z.shape, c)
        basis = _BASES[self.family][0](z, **p) if self.family in _BASES else z ** -p["b"]
        return np.asarray(c - a * basis)


def fit_family(x: ArrayLike, y: ArrayLike, family: str = "pow3") -> FamilyFit:
    """Fit one family by least squares.

    Args:
        x: positive sizes, increasing; at least three.
        y: the score at each size; higher is better.
        family: one of pow3, pow4, mmf4, exp3, log2, last1.

    Raises:
        ValueError: if the family is unknown, the lengths differ, or there are fewer than three sizes.
    """
    if family not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}, got {family!r}")
    sizes, scores = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if sizes.ndim != 1 or sizes.shape != scores.shape or len(sizes) < 3:
        raise ValueError(f"x and y must be lists of one length of at least 3, got {sizes.shape} and {scores.shape}")
    if not (sizes[0] > 0 and np.all(np.diff(sizes) > 0)):
        raise ValueError("x must be positive and increasing")
    unit = float(sizes[0])
    if family == "last1":
        return FamilyFit(family, {"c": float(scores[-1])}, unit, float(np.sum((scores - scores[-1]) ** 2)))
    if family == "pow3":
        law = fit_power_law(sizes / unit, scores)
        return FamilyFit(family, {"a": law.a, "b": law.b, "c": law.c}, unit, law.sse)
    basis, ranges = _BASES[family]
    z = sizes / unit

    def linear(logs: Sequence[float] | Sizes) -> tuple[float, float, float]:
        column = basis(z, *np.exp(logs))
        centred = column - column.mean()
        power = float(centred @ centred)
        slope = float(centred @ scores) / power if power > 1e-28 else 0.0
        residuals = scores - scores.mean() - slope * centred
        return float(residuals @ residuals), -slope, float(scores.mean() - slope * column.mean())

    logs: Sizes = np.zeros(0)
    if ranges:
        from scipy.optimize import minimize

        bounds = [(math.log(low), math.log(high)) for low, high in ranges.values()]
        per_axis = 400 if len(bounds) == 1 else 40
        axes = np.meshgrid(*(np.linspace(*ends, per_axis) for ends in bounds), indexing="ij")
        points = np.stack([axis.ravel() for axis in axes], axis=1)
        start = points[np.argmin([linear(point)[0] for point in points])]

        def error(point: Any) -> float:
            return linear(point)[0]

        found = minimize(
            error,
            start,
            method="Nelder-Mead",
            bounds=bounds,
            options={"xatol": 1e-8, "fatol": 0.0, "maxiter": 2000},
        )
        logs = found.x
    sse, a, c = linear(logs)
    nonlinear = {name: math.exp(value) for name, value in zip(ranges, logs, strict=True)}
    return FamilyFit(family, {"a": a, **nonlinear, "c": c}, unit, sse)


def choose_family(x: ArrayLike, y: ArrayLike) -> list[FamilyFit]:
    """Fit every family to all points and sort them by how well they foretell the last quarter of the curve.

    The tail is a quarter of the levels, but at least one, and at least four are left.

    Args:
        x: positive sizes, increasing.
        y: the score at each size; higher is better.

    Returns:
        The fits, least tail error first; `FamilyFit.tail_error` is the error of a fit without the tail.

    Raises:
        ValueError: as `fit_family`, or if there are fewer than five levels.
    """
    sizes, scores = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(sizes) < 5:
        raise ValueError(f"x must hold at least 5 sizes to keep a tail, got {len(sizes)}")
    tail = min(max(1, round(_TAIL * len(sizes))), len(sizes) - 4)
    found = []
    for family in FAMILIES:
        fit = fit_family(sizes, scores, family)
        forecast = fit_family(sizes[:-tail], scores[:-tail], family).predict(sizes[-tail:])
        error = float(np.mean(np.abs(forecast - scores[-tail:])))
        found.append(FamilyFit(fit.family, fit.parameters, fit.unit, fit.sse, error))
    return sorted(found, key=lambda fit: fit.tail_error or 0.0)
