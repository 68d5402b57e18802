"""True things that can be said about digits of pi: 27 statements in two styles.

The digit number n of pi, n from 1 to 1000, is asked for with a probability in proportion to 1/n. An answer is a true
statement about it, of a kind drawn first (the number .2, spelled .2, parity .3, letters of its name .2, prime or not
.1), and a style (plain .6, with an opening .4). Which statements are true depends on the digit alone, so every rate is
an exact sum. From D. D. Johnson et al., arXiv 2402.08733, section 5; the numbers are ours.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

COUNT = 1000
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
OPENING = ("sure", ",")
_KINDS = {"number": 0.2, "spelled": 0.2, "parity": 0.3, "letters": 0.2, "prime": 0.1}
_STYLES = {(): 0.6, OPENING: 0.4}


@dataclass(frozen=True)
class Statement:
    """One thing to say.

    Attributes:
        words: the text, word by word.
        share: its probability for a digit of which it is true.
        true_of: the digits of which it is true.
    """

    words: tuple[str, ...]
    share: float
    true_of: frozenset[int]


def digits(count: int = COUNT) -> list[int]:
    """Return the first digits of pi, from the 3 on, by Machin's formula π = 16 arctan(1/5) − 4 arctan(1/239)."""
    scale = 10 ** (count + 10)
    pi = 16 * _arctan_of_inverse(5, scale) - 4 * _arctan_of_inverse(239, scale)
    return [int(digit) for digit in str(pi)[:count]]


def statements() -> list[Statement]:
    """Return the 54 statements."""
    every: list[tuple[str, tuple[str, ...], set[int]]] = [
        *(("number", ("it", "is", str(digit)), {digit}) for digit in range(10)),
        *(("spelled", ("it", "is", "spelled", *name), {digit}) for digit, name in enumerate(NAMES)),
        *(("parity", ("it", "is", word), set(range(odd, 10, 2))) for odd, word in enumerate(("even", "odd"))),
        *(
            ("letters", ("it", "has", str(size), "letters"), {d for d, name in enumerate(NAMES) if len(name) == size})
            for size in (3, 4, 5)
        ),
        ("prime", ("it", "is", "prime"), {2, 3, 5, 7}),
        ("prime", ("it", "is", "not", "prime"), {0, 1, 4, 6, 8, 9}),
    ]
    return [
        Statement((*opening, *words), _KINDS[kind] * style, frozenset(true_of))
        for opening, style in _STYLES.items()
        for kind, words, true_of in every
    ]


def probabilities() -> Float[Tensor, "1000 54"]:
    """Return p(statement | n) in float64."""
    of_digit = torch.tensor([[s.share if d in s.true_of else 0.0 for s in statements()] for d in range(10)])
    return of_digit.double()[torch.tensor(digits())]


def frequencies() -> Float[Tensor, " 1000"]:
    """Return how often each n is asked for, in float64."""
    weights = 1 / torch.arange(1, COUNT + 1, dtype=torch.float64)
    return weights / weights.sum()


def _arctan_of_inverse(x: int, scale: int) -> int:
    term, total, sign, divisor = scale // x, 0, 1, 1
    while term:
        total += sign * (term // divisor)
        term //= x * x
        sign, divisor = -sign, divisor + 2
    return total
