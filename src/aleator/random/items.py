"""Normal numbers that belong to items: the same for item i whatever batch, process or device it is in.

An ordinary generator hands its numbers out in the order of asking, so that a sample depends on the batch it is drawn
in. Here a number is a function of what it is for,

    z = Box-Muller(Philox4x32-10(key; block of elements, item, number of the draw)),

computed for all items of a batch at once. A request for n samples can be cut into batches, and shared among processes,
in any way: each takes a part of 0 … n − 1 as its items.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int, Int64
from torch import Tensor

_WORD = 0xFFFFFFFF
_Word = int | Tensor


def _product(a: _Word, constant: int) -> tuple[_Word, _Word]:
    product = a * constant  # 64 bits: in an int64 the sign is wrong and every bit is right
    return (product >> 32) & _WORD, product & _WORD


def philox(counter: tuple[_Word, _Word, _Word, _Word], key: tuple[int, int]) -> tuple[_Word, _Word, _Word, _Word]:
    """Return the four words of Philox4x32-10. Words are 32-bit numbers in integers, or int64 tensors that broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _product(c0, 0xD2511F53)
        high1, low1 = _product(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _WORD, (k1 + 0xBB67AE85) & _WORD
    return c0, c1, c2, c3


class ItemGenerator:
    """A generator for a batch of items, each with its own numbers.

    Every call of `normal` is one draw; draws are counted in `draws`, which may be set to return to an earlier one. Two
    generators that are asked for the same draws in the same order give an item the same numbers. Across devices they
    agree up to the rounding of the logarithm and the cosine.

    Args:
        key: what all items of a request share, in [0, 2⁶⁴), such as ``streams.key("samples")``.
        items: their numbers within the request, not negative: of all items, or of the items of a batch or a process.

    Raises:
        ValueError: if the key is out of range, or the items are not a list of numbers that are not negative.

    Example:
        >>> key = Streams(0).key("samples")
        >>> whole = ItemGenerator(key, range(4)).normal(torch.empty(4, 3))
        >>> part = ItemGenerator(key, range(2, 4)).normal(torch.empty(2, 3))
        >>> torch.equal(whole[2:], part)
        True
    """

    def __init__(self, key: int, items: Sequence[int] | Int[Tensor, " items"]) -> None:
        if not 0 <= key < 2**64:
            raise ValueError(f"key must be in [0, 2**64), got {key}")
        numbers = torch.as_tensor(items, dtype=torch.int64) if isinstance(items, Tensor) else torch.tensor([*items])
        if numbers.ndim != 1 or (numbers.numel() and int(numbers.min()) < 0):
            raise ValueError(f"items must be a list of numbers that are not negative, got {items}")
        self.key = key
        self.items = numbers.long()
        self.draws = 0

    def normal(self, like: Float[Tensor, items * shape]) -> Float[Tensor, items * shape]:
        """Return one draw of standard normal numbers of the shape, type and device of ``like``.

        Numbers have 32 bits, so none is further out than 6.7.

        Raises:
            ValueError: if the first dimension is not the number of items.
        """
        if len(like) != len(self.items):
            raise ValueError(f"like must have one row for each of {len(self.items)} items, got {len(like)}")
        self.items = self.items.to(like.device)  # once
        size = math.prod(like.shape[1:])
        blocks = torch.arange(-(-size // 4), device=like.device)
        items = self.items[:, None]
        words = philox((blocks, items & _WORD, self.draws & _WORD, items >> 32), (self.key & _WORD, self.key >> 32))
        self.draws += 1
        dtype = torch.float64 if like.dtype == torch.float64 else torch.float32
        u0, u1, u2, u3 = ((torch.as_tensor(word).to(dtype) + 0.5) * 2.0**-32 for word in words)
        r0, r1 = torch.sqrt(-2 * torch.log(u0)), torch.sqrt(-2 * torch.log(u2))
        angle0, angle1 = 2 * math.pi * u1, 2 * math.pi * u3
        z = torch.stack((r0 * angle0.cos(), r0 * angle0.sin(), r1 * angle1.cos(), r1 * angle1.sin()), -1)
        return z.flatten(1)[:, :size].reshape(like.shape).to(like.dtype)

    def below(self, bounds: Int[Tensor, " items"]) -> Int64[Tensor, " items"]:
        """Return one draw of whole numbers, for each item uniform over [0, bound).

        A number's probability differs from 1/bound by at most 2⁻³².

        Raises:
            ValueError: if there is not one bound in [1, 2³¹] for each item.
        """
        if bounds.shape != self.items.shape:
            raise ValueError(f"bounds must be one for each of {len(self.items)} items, got shape {tuple(bounds.shape)}")
        if bounds.numel() and not 1 <= int(bounds.min()) <= int(bounds.max()) <= 2**31:
            raise ValueError(f"bounds must be in [1, 2**31], got {int(bounds.min())} to {int(bounds.max())}")
        self.items = self.items.to(bounds.device)
        items = self.items
        words = philox((0, items & _WORD, self.draws & _WORD, items >> 32), (self.key & _WORD, self.key >> 32))
        self.draws += 1
        return (torch.as_tensor(words[0]) * bounds.long()) >> 32
