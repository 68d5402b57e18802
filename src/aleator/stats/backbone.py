"""The levels from which on the asymptotes of growing fits are calm, and possible.

The asymptotes α_3, α_4, … of the trends of a learning curve are its backbone, with the slope

    v_i = |α_{i+1} − α_i| / (x_{i+1} − x_i).

The working level is the first ω with v_i ≤ ν^(1/ς) for all i in [ω, ω+λ], the prediction level the first ℘ ≥ ω with
α_℘ ≤ 1. Source: Vilares Ferro et al., Computer Speech & Language 41, 2017, from memory, see
`aleator.stats.learning_trace`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# An asymptote of exactly 1 comes out of the fit with an error of rounding.
ROUNDING = 1e-9


class Levels(NamedTuple):
    """The levels of a backbone, numbered from 1; None where not decided.

    Attributes:
        working: ω, from which the backbone is calm.
        prediction: ℘, the first level from ω on with a possible asymptote.
        decision: the level at which ℘ could be known: the look-ahead has passed.
    """

    working: int | None
    prediction: int | None
    decision: int | None


def backbone_levels(
    x: Float[np.ndarray, " levels"],
    alpha: Float[np.ndarray, " levels"],
    nu: float,
    slowdown: int,
    lookahead: int,
    ceiling: float | None = 1.0,
) -> Levels:
    """Return the levels of a backbone (section 2.3 of our notes on the paper).

    Args:
        x: increasing sizes.
        alpha: asymptotes, NaN where there is none, as at the first two levels.
        nu: ν, the slope that counts as calm, in score per unit of x, for a slowdown of 1.
        slowdown: ς; the threshold is ν^(1/ς).
        lookahead: λ, for how many more slopes the backbone has to stay calm.
        ceiling: the best possible score; None if there is none.
    """
    calm = np.abs(np.diff(alpha)) / np.diff(x) <= nu ** (1 / slowdown)
    starts = [i for i in range(len(calm) - lookahead) if np.all(calm[i : i + lookahead + 1])]
    if not starts:
        return Levels(None, None, None)
    working = starts[0] + 1
    possible = alpha[working - 1 :] <= (np.inf if ceiling is None else ceiling + ROUNDING)
    if not np.any(possible):
        return Levels(working, None, None)
    prediction = working + int(np.argmax(possible))
    return Levels(working, prediction, max(working + lookahead + 1, prediction))
