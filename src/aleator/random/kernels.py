"""The loops of addressed random numbers, compiled: words of Philox, and steps along many random directions at once.

A step v ← v − Σⱼ cⱼ zⱼ goes over v once, in tiles that stay in the first cache; inside a tile it goes over the
directions. Memory is read and written once, however many directions there are. Tiles lie on fixed places of the whole
tensor, so that a shard, which may begin anywhere, gets the bits of its own elements. Terms are subtracted one after
the other in the order given, each rounded, so that many directions in one pass give the same bits as one pass for
each.

Callers check sizes: `aleator.random.subtract_directions` is the door.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint32]
Keys = npt.NDArray[np.uint64]

_F = TypeVar("_F", bound=Callable[..., object])

_WORD = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
_MULTIPLY_0, _MULTIPLY_2 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_BUMP_0, _BUMP_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)

TILE = 2048  # elements; 8 KiB of float32 leave room for the words in a first cache of 32 KiB


def _compiled(function: _F) -> _F:
    # unwrap: the test run's import hook puts a wrapper around every function that numba could not compile.
    return cast(_F, numba.njit(cache=True, nogil=True)(inspect.unwrap(function)))


def _part(function: _F) -> _F:
    compiled: Any = numba.njit
    return cast(_F, compiled(forceinline=True, _nrt=False)(inspect.unwrap(function)))


@_part
def _round(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    p0, p2 = c0 * _MULTIPLY_0, c2 * _MULTIPLY_2
    return (p2 >> _32) ^ c1 ^ k0, p2 & _WORD, (p0 >> _32) ^ c3 ^ k1, p0 & _WORD


@_part
def _philox(c0: Any, c1: Any, c2: Any, c3: Any, k0: Any, k1: Any) -> Any:
    # Written out: a loop here would keep the loop over blocks from being vectorised.
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _BUMP_0) & _WORD, (k1 + _BUMP_1) & _WORD
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _BUMP_0) & _WORD, (k1 + _BUMP_1) & _WORD
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _BUMP_0) & _WORD, (k1 + _BUMP_1) & _WORD
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _BUMP_0) & _WORD, (k1 + _BUMP_1) & _WORD
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _BUMP_0) & _WORD, (k1 + _BUMP_1) & _WORD
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _BUMP_0) & _WORD, (k1 + _BUMP_1) & _WORD
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _BUMP_0) & _WORD, (k1 + _BUMP_1) & _WORD
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _BUMP_0) & _WORD, (k1 + _BUMP_1) & _WORD
    c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
    k0, k1 = (k0 + _BUMP_0) & _WORD, (k1 + _BUMP_1) & _WORD
    return _round(c0, c1, c2, c3, k0, k1)


@_compiled
def _streams(keys: Keys) -> Keys:
    """The words (a, b, c, d) of keys (run, round, machine, sample)."""
    found = np.empty_like(keys)
    for j in range(keys.shape[0]):
        run, number, machine, sample = keys[j, 0], keys[j, 1], keys[j, 2], keys[j, 3]
        found[j, 0], found[j, 1], found[j, 2], found[j, 3] = _philox(
            number, sample, machine & _WORD, machine >> _32, run & _WORD, run >> _32
        )
    return found


@_compiled
def _fill_blocks(words: Words, stream: Keys, tensor: np.uint64, block: int, blocks: int) -> None:
    """Write the words of blocks from ``block`` on to words[4, …], the first of each block to words[0, …]."""
    a, b, c, d = stream[0], stream[1], stream[2], stream[3]
    for i in range(blocks):
        w0, w1, w2, w3 = _philox(np.uint64(block + i), tensor, c, d, a, b)
        words[0, i], words[1, i], words[2, i], words[3, i] = np.uint32(w0), np.uint32(w1), np.uint32(w2), np.uint32(w3)


@_compiled
def fill_words(out: npt.NDArray[np.int64], keys: Keys, tensor: np.uint64, first: int) -> None:
    """Write the words of elements from ``first`` on; ``keys`` holds one key."""
    stream = _streams(keys)[0]
    words = np.empty((4, TILE // 4), np.uint32)
    done, size = 0, out.shape[0]
    while done < size:
        block = (first + done) // 4
        skipped = first + done - 4 * block
        count = min(TILE - skipped, size - done)
        _fill_blocks(words, stream, tensor, block, (skipped + count + 3) // 4)
        for e in range(count):
            i = skipped + e
            out[done + e] = np.int64(words[i & 3, i >> 2])
        done += count


@_compiled
def _signs(tile: Any, size: int, c: Any, words: Words, stream: Keys, tensor: np.uint64, start: int) -> None:
    """Subtract c times signs from a tile that begins at element ``start``; a word has the signs of 32 elements."""
    _fill_blocks(words, stream, tensor, start // 128, (size + 127) // 128)
    minus = -c
    for i in range((size + 31) // 32):
        word = np.int32(words[i & 3, i >> 2])
        piece = tile[32 * i : 32 * i + 32]
        for e in range(32):
            # The bit, moved to where the sign of an integer is; 1 stands for −1. This becomes one blend of vectors.
            negative = np.int32(word << np.int32(31 - e)) < np.int32(0)
            piece[e] -= minus if negative else c


@_compiled
def _popcounts(tile: Any, size: int, c: Any, words: Words, stream: Keys, tensor: np.uint64, start: int) -> None:
    """Subtract c times (bits that are set in an element's word − 16)."""
    blocks = (size + 3) // 4
    _fill_blocks(words, stream, tensor, start // 4, blocks)
    for k in range(4):
        for i in range(blocks):
            n = words[k, i]
            n = n - ((n >> np.uint32(1)) & np.uint32(0x55555555))
            n = (n & np.uint32(0x33333333)) + ((n >> np.uint32(2)) & np.uint32(0x33333333))
            n = (n + (n >> np.uint32(4))) & np.uint32(0x0F0F0F0F)
            n = np.uint32(n * np.uint32(0x01010101)) >> np.uint32(24)
            tile[4 * i + k] -= c * tile.dtype.type(np.int32(n) - np.int32(16))


@_compiled
def _normals(tile: Any, size: int, c: Any, words: Words, stream: Keys, tensor: np.uint64, start: int) -> None:
    """Subtract c times normal numbers, two of two words."""
    blocks = (size + 3) // 4
    _fill_blocks(words, stream, tensor, start // 4, blocks)
    for i in range(blocks):
        for k in range(0, 4, 2):
            radius = math.sqrt(-2.0 * math.log((np.float64(words[k, i]) + 0.5) * 2.0**-32))
            angle = 2.0 * math.pi * ((np.float64(words[k + 1, i]) + 0.5) * 2.0**-32)
            tile[4 * i + k] -= c * tile.dtype.type(radius * math.cos(angle))
            tile[4 * i + k + 1] -= c * tile.dtype.type(radius * math.sin(angle))


@_compiled
def subtract(
    values: Any, coefficients: Any, decays: Any, keys: Keys, tensor: np.uint64, first: int, stride: int, kind: int
) -> None:
    """Subtract directions from rows of values [rows, length]; row r begins at element ``first`` + r ``stride``.

    Args:
        values: what is changed, in place.
        coefficients: of the type of the values, one for each key.
        decays: of the type of the values: before direction j, v ← v − decays[j] v.
        keys: [directions, 4].
        tensor: its number.
        first: element.
        stride: elements of the whole tensor between the beginnings of two rows.
        kind: 0 signs, 1 popcounts, 2 normals.
    """
    streams = _streams(keys)
    words = np.empty((4, TILE // 4), np.uint32)
    edge = np.zeros(TILE, values.dtype)
    for r in range(values.shape[0]):
        row = values[r]
        done, size = 0, row.shape[0]
        while done < size:
            here = first + r * stride + done
            start = here - here % TILE
            skipped = here - start
            count = min(TILE - skipped, size - done)
            whole = count == TILE
            tile = row[done : done + TILE] if whole else edge
            if not whole:
                tile[skipped : skipped + count] = row[done : done + count]
            # the tile's elements before ``skipped`` are computed and thrown away; those behind the last are not
            # computed
            reach = skipped + count
            for j in range(streams.shape[0]):
                if decays[j] != 0:
                    for e in range(reach):
                        tile[e] -= decays[j] * tile[e]
                if kind == 0:
                    _signs(tile, reach, coefficients[j], words, streams[j], tensor, start)
                elif kind == 1:
                    _popcounts(tile, reach, coefficients[j], words, streams[j], tensor, start)
                else:
                    _normals(tile, reach, coefficients[j], words, streams[j], tensor, start)
            if not whole:
                row[done : done + count] = tile[skipped : skipped + count]
            done += count
