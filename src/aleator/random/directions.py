"""Random directions with addresses, and steps along many of them in one pass.

The element e of the direction of a key in tensor t is a function of `random_bits`:

    rademacher   ±1, minus where bit e mod 32 of word ⌊e/32⌋ is set                          E z⁴ = 1
    popcount     (number of bits set in word e − 16) / √8, in steps of 0.354, |z| ≤ 5.66     E z⁴ = 2.9375
    gaussian     Box–Muller of words 2⌊e/2⌋ and 2⌊e/2⌋ + 1: cosine if e is even, else sine   E z⁴ = 3, |z| < 6.7

All have mean 0 and variance 1, and independent elements. A step subtracts cⱼ zⱼ for one j after the other, rounded each
time. For signs the products are exact, for popcounts they are made so: c/√8 is rounded to five bits fewer than its type
has. Fused multiplication cannot change a bit then, and a step is the same on every device. Normal numbers agree across
devices, and between numba and torch, up to the rounding of a logarithm and a cosine.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Float
from torch import Tensor

from aleator.random.addressed import (
    ELEMENTS,
    Key,
    check_tensor_number,
    checked_keys,
    compiled_loops,
    stream,
    stream_words,
)

Kind = Literal["rademacher", "popcount", "gaussian"]
KINDS: tuple[Kind, ...] = ("rademacher", "popcount", "gaussian")

_BITS = {torch.float32: 24, torch.float64: 53}


@dataclass(frozen=True)
class Region:
    """Where the elements of a local tensor are in the whole one: rows of one length, at equal distances.

    Attributes:
        first: index of the first element.
        rows: their number.
        length: elements of a row, which follow each other.
        stride: elements between the beginnings of two rows.
    """

    first: int
    rows: int
    length: int
    stride: int


def subtract_directions(
    values: Float[Tensor, "*shape"],
    coefficients: Sequence[float] | npt.NDArray[np.float64],
    keys: Sequence[Key] | npt.NDArray[np.uint64],
    kind: Kind = "rademacher",
    *,
    tensor: int = 0,
    region: Region | None = None,
    decays: Sequence[float] | npt.NDArray[np.float64] | None = None,
) -> None:
    """Subtract Σⱼ cⱼ zⱼ from values, in place, in the order given and in one pass over memory.

    On a CPU compiled loops do it, if numba is installed, on a CUDA device a kernel of Triton (signs and popcounts);
    elsewhere, and inside `torch.compile`, torch, with a pass for each direction. Contiguous values need no copy. One
    direction of float32 signs costs about what an addition costs; each further one about half.

    Args:
        values: float32 or float64.
        coefficients: cⱼ, in float64; rounded once to the type of the values.
        keys: of the directions zⱼ; also as an array of uint64, [directions, 4].
        kind: of the directions.
        tensor: number of the tensor.
        region: where the values are in the whole tensor; by default they are all of it.
        decays: before direction j is subtracted, values lose decays[j] times themselves; by default nothing.

    Raises:
        ValueError: if types, sizes, numbers or the kind are wrong.
    """
    if values.dtype not in _BITS:
        raise ValueError(f"values must be float32 or float64, got {values.dtype}")
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    check_tensor_number(tensor)
    region = Region(0, 1, values.numel(), 0) if region is None else region
    _check_region(region, values)
    c = _rounded(np.asarray(coefficients, np.float64), kind, values.dtype)
    d = _rounded(np.zeros(len(c)) if decays is None else np.asarray(decays, np.float64), "gaussian", values.dtype)
    addresses = checked_keys(keys)
    if not len(c) == len(addresses) == len(d):
        raise ValueError(
            f"coefficients, keys and decays must have one length, got {len(c)}, {len(addresses)} and {len(d)}"
        )
    if not len(c) or not values.numel():
        return
    with torch.no_grad():
        whole = values.detach().contiguous()
        rows = whole.view(region.rows, region.length)
        loops = compiled_loops() if whole.device.type == "cpu" else None
        triton = _triton_loops(whole, kind)
        if loops is not None:
            loops.subtract(
                rows.numpy(), c, d, addresses, np.uint64(tensor), region.first, region.stride, KINDS.index(kind)
            )
            torch.autograd.graph.increment_version(values)  # NumPy wrote past torch
        elif triton is not None:
            streams = np.array([stream(_key(address)) for address in addresses], np.uint32)
            triton.subtract(rows, c, d, streams, tensor, region.first, region.stride, kind == "rademacher")
            torch.autograd.graph.increment_version(values)
        else:
            _subtract(whole, c, d, addresses, kind, tensor, region)
        if whole.data_ptr() != values.data_ptr():
            values.copy_(whole)


def _triton_loops(values: Tensor, kind: Kind) -> Any:
    """Return the module of loops for GPUs, or None where they do not apply."""
    if values.device.type != "cuda" or kind == "gaussian" or torch.compiler.is_compiling():
        return None
    try:
        from aleator.random import triton_kernels
    except ImportError as error:
        if error.name != "triton":
            raise
        return None
    return triton_kernels


def _key(address: npt.NDArray[np.uint64]) -> Key:
    run, number, machine, sample = address.tolist()
    return run, number, machine, sample


def _check_region(region: Region, values: Tensor) -> None:
    last = region.first + (region.rows - 1) * region.stride + region.length
    if region.rows * region.length != values.numel():
        raise ValueError(f"region must have {values.numel()} elements, as values, got {region}")
    if region.first < 0 or (region.rows > 1 and region.stride < region.length) or last > ELEMENTS:
        raise ValueError(f"region must lie within [0, 2**34), row after row, got {region}")


def _rounded(
    coefficients: npt.NDArray[np.float64], kind: Kind, dtype: torch.dtype
) -> npt.NDArray[np.float32] | npt.NDArray[np.float64]:
    """Coefficients of what the loops make of bits, of the type of the values."""
    if coefficients.ndim != 1:
        raise ValueError(f"coefficients must be a list of numbers, got shape {coefficients.shape}")
    if kind == "popcount":
        mantissa, exponent = np.frexp(coefficients / math.sqrt(8))
        bits = _BITS[dtype] - 5  # |popcount − 16| ≤ 16
        coefficients = np.ldexp(np.rint(np.ldexp(mantissa, bits)), exponent - bits)
    return coefficients.astype(np.float32) if dtype == torch.float32 else coefficients.astype(np.float64)


def _subtract(
    values: Tensor,
    coefficients: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    decays: npt.NDArray[np.float32] | npt.NDArray[np.float64],
    keys: npt.NDArray[np.uint64],
    kind: Kind,
    tensor: int,
    region: Region,
) -> None:
    """The loops, by torch: on every device; a pass over memory for each direction where torch does not compile it."""
    c, d = torch.from_numpy(coefficients).to(values.device), torch.from_numpy(decays).to(values.device)
    elements = torch.arange(region.length, device=values.device)
    elements = region.first + elements + region.stride * torch.arange(region.rows, device=values.device)[:, None]
    rows = values.view(region.rows, region.length)
    for j, key in enumerate(keys):
        if decays[j]:
            rows.sub_(rows * d[j])
        rows.sub_(integers(stream(_key(key)), kind, tensor, elements, values.dtype) * c[j])


def integers(
    words: tuple[Tensor | int, Tensor | int, Tensor | int, Tensor | int],
    kind: Kind,
    tensor: int,
    elements: Tensor,
    dtype: torch.dtype,
) -> Tensor:
    """Return what the coefficients multiply: ±1, a popcount − 16, or a normal number."""
    if kind == "rademacher":
        word = _word(words, tensor, elements >> 5)
        return (1 - 2 * ((word >> (elements & 31)) & 1)).to(dtype)
    if kind == "popcount":
        n = _word(words, tensor, elements)
        n = n - ((n >> 1) & 0x55555555)
        n = (n & 0x33333333) + ((n >> 2) & 0x33333333)
        n = (n + (n >> 4)) & 0x0F0F0F0F
        return (((n * 0x01010101) >> 24) & 0xFF).sub(16).to(dtype)
    u = (_word(words, tensor, elements & ~1).double() + 0.5) * 2.0**-32
    angle = 2 * math.pi * ((_word(words, tensor, elements | 1).double() + 0.5) * 2.0**-32)
    return (torch.sqrt(-2 * torch.log(u)) * torch.where(elements % 2 == 0, angle.cos(), angle.sin())).to(dtype)


def _word(
    words: tuple[Tensor | int, Tensor | int, Tensor | int, Tensor | int], tensor: int, elements: Tensor
) -> Tensor:
    w0, w1, w2, w3 = stream_words(words, tensor, elements >> 2)
    lane = elements & 3
    return torch.where(lane < 2, torch.where(lane == 0, w0, w1), torch.where(lane == 2, w2, w3))
