"""The step along many random signs or popcounts at once, for GPUs: `aleator.random.kernels` in the language of Triton.

A program holds a tile of the values in registers and goes over all directions: memory is read and written once. The
bits are those of the loops for CPUs. Multiplication and subtraction are not fused, since decay would round otherwise.

The kernel was run by Triton's interpreter and has not been run on a GPU.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import triton
import triton.language as tl
from torch import Tensor

_TILE = 1024


def _compiled(function: Callable[..., None]) -> Any:
    # unwrap: the test run's import hook puts a wrapper around every function that Triton could not read.
    return triton.jit(inspect.unwrap(function), do_not_specialize=["tensor", "first", "length", "stride", "count"])


@_compiled
def _subtract(
    values: Any,
    streams: Any,
    coefficients: Any,
    decays: Any,
    tensor: Any,
    first: Any,
    length: Any,
    stride: Any,
    count: Any,
    signs: tl.constexpr,
    blocks: tl.constexpr,
) -> None:
    per: tl.constexpr = 128 if signs else 4  # elements of the four words of a block
    row = tl.program_id(0).to(tl.int64)
    begin = first + row * stride
    block = begin // per + tl.program_id(1).to(tl.int64) * blocks + tl.arange(0, blocks)
    place = block[:, None] * per + tl.arange(0, per)[None, :] - begin
    inside = (place >= 0) & (place < length)
    pointers = values + row * length + place
    v = tl.load(pointers, mask=inside, other=0.0)
    zeros = tl.zeros([blocks], tl.uint32)
    for j in range(count):
        k0 = tl.load(streams + 4 * j).to(tl.uint32, bitcast=True)
        k1 = tl.load(streams + 4 * j + 1).to(tl.uint32, bitcast=True)
        c0 = block.to(tl.uint32)
        c1 = zeros + tensor.to(tl.uint32)
        c2 = zeros + tl.load(streams + 4 * j + 2).to(tl.uint32, bitcast=True)
        c3 = zeros + tl.load(streams + 4 * j + 3).to(tl.uint32, bitcast=True)
        for _ in tl.static_range(10):
            low0 = c0 * 0xD2511F53
            high0 = tl.umulhi(c0, tl.full([blocks], 0xD2511F53, tl.uint32))
            low2 = c2 * 0xCD9E8D57
            high2 = tl.umulhi(c2, tl.full([blocks], 0xCD9E8D57, tl.uint32))
            c0, c1, c2, c3 = high2 ^ c1 ^ k0, low2, high0 ^ c3 ^ k1, low0
            k0 = k0 + 0x9E3779B9
            k1 = k1 + 0xBB67AE85
        words = tl.reshape(tl.join(tl.join(c0, c2), tl.join(c1, c3)), [blocks, 4])
        c = tl.load(coefficients + j)
        d = tl.load(decays + j)
        v = tl.where(d != 0, v - d * v, v)
        if signs:
            bits = (words[:, :, None] >> tl.arange(0, 32).to(tl.uint32)[None, None, :]) & 1
            v = v - tl.where(tl.reshape(bits, [blocks, per]) != 0, -c, c)
        else:
            n = words - ((words >> 1) & 0x55555555)
            n = (n & 0x33333333) + ((n >> 2) & 0x33333333)
            n = (n + (n >> 4)) & 0x0F0F0F0F
            n = (n + (n >> 8) + (n >> 16) + (n >> 24)) & 0xFF
            v = v - c * (n.to(tl.int32) - 16).to(c.dtype)
    tl.store(pointers, v, mask=inside)


def subtract(
    values: Tensor,
    coefficients: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    decays: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    streams: npt.NDArray[np.uint32],
    tensor: int,
    first: int,
    stride: int,
    signs: bool,
) -> None:
    """Subtract directions from contiguous values [rows, length]; see `aleator.random.kernels.subtract`.

    Args:
        values: on a GPU; changed in place.
        coefficients: of the type of the values.
        decays: of the type of the values.
        streams: the four words of each key.
        tensor: its number.
        first: element.
        stride: elements between the beginnings of two rows.
        signs: or else popcounts.
    """
    rows, length = values.shape
    per = 128 if signs else 4
    blocks = _TILE // per
    tiles = triton.cdiv(length + per - 1, _TILE)  # a row may begin inside a block
    there = values.device
    _subtract[(rows, tiles)](
        values,
        torch.from_numpy(streams.view(np.int32)).to(there),
        torch.from_numpy(coefficients).to(there),
        torch.from_numpy(decays).to(there),
        tensor,
        first,
        length,
        stride,
        len(coefficients),
        signs=signs,
        blocks=blocks,
        **({"enable_fp_fusion": False} if there.type == "cuda" else {}),
    )
