"""Random bits that have an address: the same on every device, in every shard and in whatever pieces they are asked for.

The address is a key of four integers (run, round, machine, sample), the number of a tensor and the index of an element
within the whole tensor. Two rounds of Philox4x32-10, a bijection of a 128-bit counter for every 64-bit key, make it:

    a, b, c, d = Philox[key: run](round, sample, low half of machine, high half of machine)
    words 4i … 4i + 3 of tensor t = Philox[key: a, b](i, t, c, d).

All 128 bits of (a, b, c, d) are used, so that two keys of one run share no counter under one Philox key, whatever they
are: there is no hash that may collide.

J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from jaxtyping import Int64
from torch import Tensor

from aleator.random.items import philox

WORD = 0xFFFFFFFF
ELEMENTS = 2**34
"""Elements of a tensor: an element's block of four words has a number of 32 bits."""

Key = tuple[int, int, int, int]
"""Run in [0, 2⁶⁴), round in [0, 2³²), machine in [0, 2⁶⁴), sample in [0, 2³²)."""

_BOUNDS = (("run", 64), ("round", 32), ("machine", 64), ("sample", 32))


def checked_keys(keys: Sequence[Key] | npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return keys as an array [keys, 4]; what is such an array already is taken as it is.

    Raises:
        ValueError: if a key is not four integers in their ranges.
    """
    if isinstance(keys, np.ndarray):
        if keys.dtype != np.uint64 or keys.ndim != 2 or keys.shape[1] != 4:
            raise ValueError(f"keys must be an array of uint64 of shape (keys, 4), got {keys.dtype}, {keys.shape}")
        if keys.size and int(keys[:, [1, 3]].max()) >= 2**32:
            raise ValueError(f"round and sample of a key must be below 2**32, got {int(keys[:, [1, 3]].max())}")
        return np.ascontiguousarray(keys)
    given: Sequence[Any] = keys
    for key in given:
        if not isinstance(key, tuple) or len(key) != 4:
            raise ValueError(f"key must be four integers (run, round, machine, sample), got {key!r}")
        for (name, bits), number in zip(_BOUNDS, key, strict=True):
            if type(number) is not int or not 0 <= number < 1 << bits:
                raise ValueError(f"{name} of a key must be an integer in [0, 2**{bits}), got {number!r}")
    return np.array(keys, dtype=np.uint64).reshape(-1, 4)


def stream(key: Key) -> tuple[int, int, int, int]:
    """Return (a, b, c, d), the four words that stand for a key."""
    run, number, machine, sample = (int(n) for n in key)
    a, b, c, d = philox((number, sample, machine & WORD, machine >> 32), (run & WORD, run >> 32))
    return int(a), int(b), int(c), int(d)


def stream_words(
    words: tuple[Any, Any, Any, Any], tensor: int, blocks: Int64[Tensor, "*shape"]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the four words of each block, as int64, by torch alone: on every device, also inside `torch.compile`."""
    a, b, c, d = words
    found = philox((blocks, tensor, c, d), (a, b))
    return tuple(torch.as_tensor(word).expand(blocks.shape) for word in found)  # type: ignore[return-value]


def compiled_loops() -> Any:
    """Return the module of compiled loops, or None without numba or while torch itself compiles."""
    if torch.compiler.is_compiling():
        return None
    try:
        from aleator.random import kernels
    except ImportError as error:
        if error.name != "numba":
            raise
        return None
    return kernels


def random_bits(
    key: Key, tensor: int, elements: range | Int64[Tensor, "*shape"], *, device: torch.device | str = "cpu"
) -> Int64[Tensor, "*shape"]:
    """Return the 32 random bits of each element, as whole numbers in [0, 2³²).

    They depend on the address alone. On a CPU a range is filled by compiled loops, if numba is installed; everything
    else is computed by torch. The bits are the same.

    Args:
        key: run, round, machine and sample.
        tensor: the tensor's number, in [0, 2³²).
        elements: indices within the whole tensor, in [0, 2³⁴): a range with step 1, or a tensor of whole numbers,
            whose bounds are checked on a CPU only, where that costs no wait for a device.
        device: where the bits of a range are made; those of a tensor are made where it is.

    Raises:
        ValueError: if a number is out of its range.

    Example:
        >>> whole = random_bits((7, 0, 0, 0), 0, range(100))
        >>> torch.equal(whole[60:], random_bits((7, 0, 0, 0), 0, range(60, 100)))
        True
    """
    keys = checked_keys([key])
    check_tensor_number(tensor)
    if isinstance(elements, Tensor):
        return _selected(stream(key), tensor, _checked(elements))
    asked: Any = elements
    if not isinstance(asked, range):
        raise ValueError(f"elements must be a range or a tensor of whole numbers, got {asked!r}")
    if elements.step != 1 or not 0 <= elements.start <= max(elements.start, elements.stop) <= ELEMENTS:
        raise ValueError(f"elements must be a range with step 1 within [0, 2**34), got {elements}")
    loops = compiled_loops() if torch.device(device).type == "cpu" else None
    if loops is None:
        return _selected(
            stream(key), tensor, torch.arange(elements.start, max(elements.start, elements.stop), device=device)
        )
    words = torch.empty(len(elements), dtype=torch.int64)
    loops.fill_words(words.numpy(), keys, np.uint64(tensor), np.int64(elements.start))
    return words


def check_tensor_number(tensor: int) -> None:
    """Refuse a number of a tensor that does not fit its word.

    Raises:
        ValueError: if it is not in [0, 2³²).
    """
    if not 0 <= tensor < 2**32:
        raise ValueError(f"tensor must be in [0, 2**32), got {tensor}")


def _checked(elements: Tensor) -> Tensor:
    """Return indices as int64, in which Philox multiplies."""
    if elements.is_floating_point() or elements.is_complex() or elements.dtype == torch.bool:
        raise ValueError(f"elements must be whole numbers, got {elements.dtype}")
    seen = elements.device.type == "cpu" and elements.numel() and not torch.compiler.is_compiling()
    if seen and not 0 <= int(elements.min()) <= int(elements.max()) < ELEMENTS:
        raise ValueError(f"elements must be in [0, 2**34), got {int(elements.min())} to {int(elements.max())}")
    return elements.long()


def _selected(words: tuple[int, int, int, int], tensor: int, elements: Tensor) -> Tensor:
    found = torch.stack(stream_words(words, tensor, elements >> 2), -1)
    return found.gather(-1, (elements & 3)[..., None]).squeeze(-1)
