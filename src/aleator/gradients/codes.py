"""A number in a byte: logarithmic codes for the scalars that machines send each other.

    log8   byte = 128·[g < 0] + power + 64,   power = clamp(round(8 ln|g|), −63, 63)      3.80e-4 … 2631, within 6.45 %
    log9   sign and power = clamp(round(16 ln|g|), −127, 127)                              3.57e-4 … 2800, within 3.17 %

Rounding is half to even, arithmetic float64. In log8 the codes 0 and 128 are zero, and only 0 is ever sent for one.
What is too large becomes the largest number of the range. What is too small is zero (``small="zero"``) below half the
smallest number, e^(−63/8)/2, and becomes the smallest from there on; with ``small="clamp"`` every number but zero
does, which makes noise of gradients that vanish. Not-a-number and infinity are not sent: they become 0, and
`sendable` counts them.

log9 is what the paper's program computes: 510 states beside zero, one more bit than it says. It is here for comparison.

Decoding reads a table of 256 numbers. It is made by the decimal arithmetic of Python, rounded to float64 correctly,
since the exponential functions of two C libraries may differ in their last bit.

E. Zelikman, Q. Huang, P. Liang, N. Haber, N. D. Goodman, "Just One Byte (per gradient)", arXiv 2306.10015.
"""

from __future__ import annotations

import decimal
import functools
import math
from typing import Literal, overload

import torch
from torch import Tensor

Small = Literal["zero", "clamp"]
Codec = Literal["log8", "log9", "float32"]
"""What a gradient travels as; a float is sent as it is."""

_RANGE8, _RANGE9 = 63, 127


def _exponentials(steps: int, reach: int) -> list[float]:
    """e^(power/steps) for every power from −reach to reach, correctly rounded."""
    context = decimal.Context(prec=40)
    return [float((decimal.Decimal(power) / steps).exp(context)) for power in range(-reach, reach + 1)]


@functools.cache
def log8_table() -> tuple[float, ...]:
    """Return what each of the 256 codes stands for."""
    positive = [0.0, *_exponentials(8, _RANGE8)]
    return (*positive, 0.0, *(-number for number in positive[1:]))


@functools.cache
def _log9_table() -> tuple[float, ...]:
    return tuple(_exponentials(16, _RANGE9))


def sendable(gradient: float | Tensor) -> bool | Tensor:
    """Return whether a number may be sent: it is finite."""
    return torch.isfinite(gradient) if isinstance(gradient, Tensor) else math.isfinite(gradient)


def _powers(gradient: Tensor, steps: int, reach: int) -> Tensor:
    magnitude = gradient.abs().where(torch.isfinite(gradient) & (gradient != 0), 1.0)
    return (steps * magnitude.log()).round().clamp(-reach, reach).long()


@overload
def log8_encode(gradient: float, small: Small = ...) -> int: ...
@overload
def log8_encode(gradient: Tensor, small: Small = ...) -> Tensor: ...
def log8_encode(gradient: float | Tensor, small: Small = "zero") -> int | Tensor:
    """Return the byte of a number, or the bytes (uint8) of a tensor.

    Args:
        gradient: of any size; what is not finite becomes 0.
        small: what becomes of numbers below the range, see above.

    Raises:
        ValueError: if ``small`` is neither.
    """
    if small not in ("zero", "clamp"):
        raise ValueError(f"small must be zero or clamp, got {small!r}")
    g = torch.as_tensor(gradient, dtype=torch.float64)  # a number of Python would pass through float32
    zero = ~torch.isfinite(g) | (g == 0)
    if small == "zero":
        zero |= g.abs() < log8_table()[1] / 2
    codes = torch.where(zero, 0, _powers(g, 8, _RANGE8) + 64 + 128 * (g < 0).long())
    return codes.to(torch.uint8) if isinstance(gradient, Tensor) else int(codes)


@overload
def log8_decode(code: int) -> float: ...
@overload
def log8_decode(code: Tensor) -> Tensor: ...
def log8_decode(code: int | Tensor) -> float | Tensor:
    """Return the number of a byte, or the numbers (float64) of a tensor of bytes.

    Raises:
        ValueError: if a code is not in [0, 255].
    """
    if isinstance(code, Tensor):
        if code.is_floating_point() or (code.numel() and not 0 <= int(code.min()) <= int(code.max()) <= 255):
            raise ValueError(f"code must be integers in [0, 255], got {code}")
        return torch.tensor(log8_table(), dtype=torch.float64, device=code.device)[code.long()]
    if not 0 <= code <= 255:
        raise ValueError(f"code must be in [0, 255], got {code}")
    return log8_table()[code]


@overload
def log9_encode(gradient: float) -> tuple[int, int]: ...
@overload
def log9_encode(gradient: Tensor) -> tuple[Tensor, Tensor]: ...
def log9_encode(gradient: float | Tensor) -> tuple[int, int] | tuple[Tensor, Tensor]:
    """Return sign (−1, 0, 1) and power of a number, or those of a tensor; zero and what is not finite have sign 0."""
    g = torch.as_tensor(gradient, dtype=torch.float64)
    zero = ~torch.isfinite(g) | (g == 0)
    sign = torch.where(zero, 0, 1 - 2 * (g < 0).long())
    power = torch.where(zero, -_RANGE9, _powers(g, 16, _RANGE9))
    return (sign, power) if isinstance(gradient, Tensor) else (int(sign), int(power))


@overload
def log9_decode(sign: int, power: int) -> float: ...
@overload
def log9_decode(sign: Tensor, power: Tensor) -> Tensor: ...
def log9_decode(sign: int | Tensor, power: int | Tensor) -> float | Tensor:
    """Return sign · e^(power/16), in float64; sign 0 is zero.

    Raises:
        ValueError: if a sign is not −1, 0 or 1, or a power not in [−127, 127].
    """
    s, p = torch.as_tensor(sign), torch.as_tensor(power)
    if bool((s.abs() > 1).any()) or bool((p.abs() > _RANGE9).any()):
        raise ValueError(f"sign must be -1, 0 or 1 and power in [-127, 127], got {sign} and {power}")
    table = torch.tensor(_log9_table(), dtype=torch.float64, device=p.device)
    number = torch.where(s == 0, 0.0, s * table[p.long() + _RANGE9])
    return number if isinstance(sign, Tensor) else float(number)
