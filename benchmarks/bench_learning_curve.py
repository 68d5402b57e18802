"""The time of fitting power laws to many noisy curves in one call, against SciPy with random restarts.

The peer does what LCDB's fitting script does (fmohr/lcdb, publications/2022-ecml/analysis/fit_database.py, read for its
procedure): Levenberg–Marquardt from parameters drawn uniformly from [0, 1), drawn again where it fails, until six fits
have succeeded; the best is kept. It is timed on a sample of the same curves, and both times are stated for one curve.
The errors of both fits on the sample are the second row.
"""

from __future__ import annotations

import warnings
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeWarning, curve_fit

from aleator.stats import fit_power_laws
from benchmarks.pairs import Pairs, interleave

Floats = NDArray[np.float64]

CURVES, LEVELS, SAMPLE = 1000, 40, 50
STARTS = 6  # successful fits for each curve in LCDB's script
TRIES = 1000  # starts in all, after which that script gives up
PEER = f"scipy.optimize.curve_fit, best of {STARTS} random starts"


def benchmark() -> list[dict[str, Any]]:
    """Return the ratio of times for one curve, and of the sums of squared errors."""
    x, y = _noisy_curves()
    timed = interleave(partial(fit_power_laws, x, y), partial(_peer, x, y[:SAMPLE]), pairs=15)
    each = Pairs([t / CURVES for t in timed.ours], [t / SAMPLE for t in timed.peer])
    what = f"one power law, of {CURVES:,} noisy curves of {LEVELS} levels in one call (the peer: {SAMPLE} of them)"
    ours, theirs = fit_power_laws(x, y).sse[:SAMPLE], _peer(x, y[:SAMPLE])
    errors = f"sum of squared errors on {SAMPLE} curves; ours is at most the peer's, to a millionth, on"
    share = int(np.sum(ours <= theirs * (1 + 1e-6)))
    return [
        each.row(what, PEER, "≥ 50"),
        Pairs(ours.tolist(), theirs.tolist()).row(f"{errors} {share}", PEER, "≥ 1", unit=""),
    ]


def _noisy_curves() -> tuple[Floats, Floats]:
    """Accuracies of a learner on 5 000, 10 000, … words, with the noise of a test set of 8 000 words."""
    rng = np.random.default_rng(0)
    a, b, c = (rng.uniform(low, high, (CURVES, 1)) for low, high in ((0.1, 0.4), (0.1, 1.0), (0.8, 0.99)))
    x = 5000.0 * np.arange(1, LEVELS + 1)
    truth = c - a * (x / x[0]) ** -b
    y: Floats = truth + rng.normal(size=truth.shape) * np.sqrt(truth * (1 - truth) / 8000)
    return np.asarray(x, dtype=np.float64), y


def _law(x: Floats, a: float, b: float, c: float) -> Floats:
    return np.asarray(c - a * x**-b)


def _peer(x: Floats, curves: Floats) -> Floats:
    """Return the least sum of squared errors of each curve."""
    rng = np.random.default_rng(1)
    return np.array([_restarted(x, y, rng) for y in curves])


def _restarted(x: Floats, y: Floats, rng: np.random.Generator) -> float:
    best, found = np.inf, 0
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore", OptimizeWarning)
        for _ in range(TRIES):
            try:
                parameters, _covariance = curve_fit(_law, x, y, p0=rng.random(3))
            except RuntimeError:  # no convergence within SciPy's limit
                continue
            best = min(best, float(np.sum((_law(x, *parameters) - y) ** 2)))
            found += 1
            if found == STARTS:
                break
    return best
