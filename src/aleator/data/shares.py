"""Shares of a whole that are exact although a float is not: a third of 3 000 is 1 000.

1/3 as a float lies below the third, and 0.29 · 100 below 29, so that rounding down would lose one. A share is therefore
taken for the fraction that was meant: the one of least denominator whose float it is.
"""

from __future__ import annotations

import math
from fractions import Fraction

# Two fractions of such denominators are at least 2^-52 apart, so that no float in (0, 1] belongs to both.
_LARGEST_DENOMINATOR = 2**26


def meant(share: float) -> Fraction:
    """Return the fraction of least denominator whose float a share is: 0.29 is 29/100, 1/3 is 1/3."""
    simple = Fraction(share).limit_denominator(_LARGEST_DENOMINATOR)
    return simple if float(simple) == share else Fraction(share)


def floor_share(share: float, total: int) -> int:
    """Return ⌊share·total⌋ of the share that was meant; a share that is the float of k/total gives k, for every k."""
    nearest = round(share * total)
    return nearest if nearest / total == share else math.floor(meant(share) * total)
