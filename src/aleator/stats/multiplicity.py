"""Several tests read together: Holm's adjustment of their p-values.

Of m tests of true hypotheses at size α each, one or more rejects with a probability of up to mα. With the p-values in
rising order p_(1) ≤ … ≤ p_(m), the adjusted ones are

    p̃_(i) = max over j ≤ i of  min(1, (m − j + 1)·p_(j)),

and rejecting where p̃ ≤ α keeps that probability at α at most, whatever the hypotheses have to do with each other.
S. Holm, A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 1979.
"""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """Return Holm's adjusted p-values, in the order given.

    Args:
        p_values: in [0, 1]; None where there was no test, which does not count and stays None.

    Raises:
        ValueError: if a p-value is not in [0, 1].

    Example:
        >>> holm([0.01, 0.04, None, 0.03])
        [0.03, 0.06, None, 0.06]
    """
    tests = [(p, i) for i, p in enumerate(p_values) if p is not None]
    for p, _ in tests:
        if not 0 <= p <= 1:
            raise ValueError(f"p_values must be in [0, 1], got {p}")
    adjusted: list[float | None] = [None] * len(p_values)
    least = 0.0
    for rank, (p, i) in enumerate(sorted(tests)):
        least = max(least, min(1.0, (len(tests) - rank) * p))
        adjusted[i] = least
    return adjusted
