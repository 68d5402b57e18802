"""Random permutations of range(n) at random access: a pure function of (key, cycle), in two forms.

`shuffled` is a plain shuffle: exactly uniform, O(n) time and memory. `FeistelPermutation` is a keyed bijection that is
evaluated where it is asked, in O(1) memory. A position is written as hi·2^k + lo, with hi in Z_b and lo in Z_{2^k}, and

    lo ← lo xor F_1(hi),   hi ← (hi + F_2(lo)) mod b,   lo ← lo xor F_3(hi),   …

Every line can be undone, so the whole is a permutation of Z_{b·2^k} whatever the keyed functions F_i are. b is the
least number with b·2^k ≥ n. A result in the surplus (a fraction below 2^k/n) is fed in again until it lands below n,
which is called cycle walking and leaves a permutation of range(n).

J. Black and P. Rogaway, "Ciphers with arbitrary finite domains", CT-RSA 2002 (generalised Feistel, cycle walking).
"""

from __future__ import annotations

import hashlib
import threading
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int, Int64
from torch import Tensor

from aleator.random import Name, Streams, derive_key

# Positions evaluated at a time: the scratch is a megabyte and stays in cache, the cost of a NumPy call is spread.
_CHUNK = 2**16

# Scratch memory of a thread, for all permutations: fresh pages from the system would cost more than the arithmetic.
_scratch = threading.local()

_RAMP = np.arange(_CHUNK, dtype=np.uint32)

_Words = npt.NDArray[Any]  # of uint32 or uint64


def shuffled(n: int, key: int, cycle: int) -> Int[Tensor, " n"]:
    """Return the random order of range(n) that belongs to (key, cycle): a plain shuffle in O(n) time and memory.

    Args:
        n: length, not negative.
        key: a non-negative integer, see `aleator.random.derive_key`.
        cycle: number of the order, not negative. Different cycles give independent orders.

    Returns:
        int32 up to n = 2^31, which takes less memory and time; int64 above.
    """
    dtype = torch.int32 if n <= 2**31 else torch.int64
    return torch.randperm(n, generator=Streams(key).generator("shuffled", cycle), dtype=dtype)


def fixed_order(n: int, *names: Name) -> list[int]:
    """Return the one random order of range(n) that belongs to (seed 0, names), for splits that may never change.

    It is the order of the SHA-256 of (key, index): no library's generator has a say in it, so that it is the same for
    every version of everything.
    """
    key = derive_key(0, *names)
    return sorted(range(n), key=lambda index: hashlib.sha256(f"{key}/{index}".encode()).digest())


class FeistelPermutation:
    """The random order of range(n) that belongs to (key, cycle), computed where it is asked.

    Slices like a tensor: ``permutation[1000:2000]`` is a LongTensor of 1000 indices. Time and memory are proportional
    to the slice and do not depend on where it lies. It is no cryptography: the functions F_i are multiplicative hashes.

    Args:
        n: length, between 1 and 2^62.
        key: a non-negative integer, see `aleator.random.derive_key`.
        cycle: number of the order, not negative. Different cycles give independent orders.

    Raises:
        ValueError: if n is out of range.

    Example:
        >>> FeistelPermutation(10**12, key=7, cycle=0)[:3].shape
        torch.Size([3])
    """

    def __init__(self, n: int, key: int, cycle: int = 0) -> None:
        if not 1 <= n <= 2**62:
            raise ValueError(f"n must be between 1 and 2**62, got {n}")
        self.n = n
        self._k = ((n - 1).bit_length() + 1) // 2
        self._b = -(-n >> self._k)
        # F takes half a word to Z_b, evenly up to b / 2^(bits / 2) a line. Wider words keep that below 1/4.
        self._word: type[np.uint32] | type[np.uint64] = np.uint32 if n <= 2**28 else np.uint64
        self._bits = np.iinfo(self._word).bits
        # Small halves mix slowly: neighbours are seen to be correlated with 4 pairs of lines in 10^5 orders of 32, and
        # with 2 pairs in 150 orders of 2^18.
        pairs = 8 if n <= 2**16 else 4
        rng = Streams(key).numpy("feistel", cycle)
        self._constants: _Words = rng.integers(0, 2**self._bits, size=(2 * pairs, 3), dtype=self._word)
        self._constants[:, 1:] |= self._word(1)  # factors must be odd

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: slice) -> Int64[Tensor, " indices"]:
        """Return the indices at a slice of positions, with any start, stop and positive step.

        Raises:
            ValueError: if the step is negative.
        """
        positions = range(self.n)[index]
        if positions.step < 0:
            raise ValueError(f"a slice's step must be positive, got {positions.step}")
        result = np.empty(len(positions), np.int64)
        for begin in range(0, len(positions), _CHUNK):
            part = positions[begin : begin + _CHUNK]
            result[begin : begin + len(part)] = self._walk(part)
        return torch.from_numpy(result)

    def _walk(self, positions: range) -> _Words:
        scratch = self._buffers(len(positions))
        values: _Words = scratch[0]
        values[:] = _RAMP[: len(positions)]
        values *= self._word(min(positions.step, self.n))  # a larger step has one position, 0, and may not fit a word
        values += self._word(positions.start)
        self._encipher(*scratch)
        if values.max() >= self.n:
            surplus = np.flatnonzero(values >= self.n)
            while surplus.size:
                again = np.empty((4, surplus.size), self._word)
                again[0] = values[surplus]
                self._encipher(*again)
                values[surplus] = again[0]
                surplus = surplus[again[0] >= self.n]
        return values

    def _encipher(self, hi: _Words, lo: _Words, hashed: _Words, spare: _Words) -> None:
        """Replace every word of ``hi`` by its image in Z_{b·2^k}; the other three are scratch of the same length."""
        k, b, half = self._word(self._k), self._word(self._b), self._word(self._bits // 2)
        np.bitwise_and(hi, (self._word(1) << k) - self._word(1), out=lo)
        hi >>= k
        for line, constants in enumerate(self._constants):
            # F: the upper half of a word that is multiplied, folded and multiplied again.
            addend, first, second = constants
            np.add(lo if line % 2 else hi, addend, out=hashed)
            hashed *= first
            np.right_shift(hashed, half - self._word(1), out=spare)
            hashed ^= spare
            hashed *= second
            if line % 2:
                hashed >>= half
                hashed *= b
                hashed >>= half
                hi += hashed
                np.subtract(hi, b, out=hashed)  # below b it wraps around to a large word, and the minimum keeps hi
                np.minimum(hi, hashed, out=hi)
            elif k:  # a shift by all bits of a word is undefined
                hashed >>= self._word(self._bits) - k
                lo ^= hashed
        hi <<= k
        hi |= lo

    def _buffers(self, length: int) -> _Words:
        if not hasattr(_scratch, "words"):
            _scratch.words = np.empty((4, _CHUNK), np.uint64)
        words: _Words = _scratch.words.view(self._word)[:, :length]
        return words
