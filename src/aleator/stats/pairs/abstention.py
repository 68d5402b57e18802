"""Answer or abstain: decoders whose rate of impossible answers is bounded by their confidence.

A *statistical hallucination* is an answer y with p(y | x) = 0. If a calibrated model answers on an event A,

    P[ p(y | X) = 0 | A ] ≤ 1 − E[C(y | X) | A],

so a model that answers only where 1 − C ≤ β hallucinates at a rate of at most β. The choice of y and of A must rest on
the model's outputs and on private randomness alone. Scores come from the model as it was trained: a temperature, top-k
or top-p may choose y, but not score it.

D. D. Johnson et al., arXiv 2402.08733, section 4.3.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Final, Literal, TypeVar

from jaxtyping import Float
from torch import Tensor

T = TypeVar("T")


class Abstention(enum.Enum):
    """The type of `ABSTAIN`, which is its only member; it survives copying and pickling."""

    ABSTAIN = "abstain"

    def __repr__(self) -> str:
        return "ABSTAIN"


ABSTAIN: Final = Abstention.ABSTAIN


def hallucination_rate_bound(confidence: Float[Tensor, " answers"]) -> float:
    """Return 1 − mean min(C, 1): at most this share of the answers is impossible, if the model is calibrated.

    Args:
        confidence: C of the answers that were given, one at least.

    Raises:
        ValueError: if there is no answer, or a confidence is negative or not a number.
    """
    if confidence.numel() == 0:
        raise ValueError("confidence must be of at least one answer, got none")
    wrong = confidence[~(confidence >= 0)]
    if len(wrong):
        raise ValueError(f"confidence must be numbers that are not negative, got {wrong[0].item():g}")
    return float(1 - confidence.double().clamp(max=1).mean())


def selective_decode(
    sampler: Callable[[], T],
    scorer: Callable[[T], float],
    beta: float,
    mode: Literal["filter", "reject", "top1"] = "filter",
    max_tries: int = 100,
) -> T | Abstention:
    """Return an answer whose doubt 1 − C is at most β, or `ABSTAIN`.

    Args:
        sampler: returns a response. For ``"filter"`` it may do so in any way; for ``"reject"`` it draws from p₁; for
            ``"top1"`` it returns the responses from the likeliest down, as ``iter(ranked).__next__`` does. It may
            end by raising ``StopIteration``.
        scorer: returns C of a response; above 1 counts as 1.
        beta: in (0, 1), the rate of impossible answers that is allowed.
        mode: ``"filter"`` looks at one response and gives it or abstains; ``"reject"`` draws until one is good enough;
            ``"top1"`` gives the likeliest that is.
        max_tries: how many responses are looked at, at least 1; with ``"filter"`` it is one.

    Raises:
        ValueError: if beta, mode or max_tries is out of range, or a confidence is negative or not a number.

    Example:
        >>> ranked = {"7": 0.2, "odd": 0.9, "prime": 0.95}
        >>> selective_decode(iter(ranked).__next__, ranked.__getitem__, beta=0.1, mode="top1")
        'odd'
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta must be in (0, 1), got {beta}")
    if mode not in ("filter", "reject", "top1"):
        raise ValueError(f"mode must be filter, reject or top1, got {mode!r}")
    if max_tries < 1:
        raise ValueError(f"max_tries must be at least 1, got {max_tries}")
    for _ in range(1 if mode == "filter" else max_tries):
        try:
            response = sampler()
        except StopIteration:
            break
        confidence = float(scorer(response))
        if not confidence >= 0:
            raise ValueError(f"scorer must return a confidence that is not negative, got {confidence}")
        if 1 - confidence <= beta:
            return response
    return ABSTAIN
