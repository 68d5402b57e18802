"""The bytes of a contribution and the numbers they stand for, by codec.

``log8`` is one byte for a gradient (`aleator.gradients.log8_encode`), ``log9`` the paper's nine bits in two bytes,
``float32`` four bytes. Decoded numbers are float64 and come from tables, so that every machine has the same bits. What
a machine sends may be anything: it is bounded by the codec's range, and a number that is not finite is refused.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray

from aleator.distributed.manifest import WIDTHS, Manifest
from aleator.distributed.messages import Commit, Malformed
from aleator.gradients import log8_encode, log8_table, log9_decode, log9_encode

FLOAT32_LIMIT = 2.0**12
"""The largest gradient that a contribution of floats may hold: about the range of the codes of one byte."""


def encode(gradients: Sequence[float], codec: str) -> bytes:
    """Return gradients as they travel; what is not finite becomes zero, as the codecs have it."""
    if codec == "log8":
        return bytes(log8_encode(torch.tensor(list(gradients), dtype=torch.float64)).tolist())
    if codec == "log9":
        return np.array([_nine_bits(float(gradient)) for gradient in gradients], "<u2").tobytes()
    values = np.nan_to_num(np.array(gradients, np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    return np.clip(values, -FLOAT32_LIMIT, FLOAT32_LIMIT).astype("<f4").tobytes()


def decode(content: bytes, codec: str) -> Float64[ndarray, gradients]:
    """Return the gradients that bytes stand for."""
    found: Float64[ndarray, gradients]
    if codec == "log8":
        found = _LOG8[np.frombuffer(content, np.uint8)]
    elif codec == "log9":
        found = _LOG9[np.frombuffer(content, "<u2") & 0x1FF]
    else:
        found = np.frombuffer(content, "<f4").astype(np.float64)
    return found


def check_gradients(content: bytes, manifest: Manifest) -> None:
    """Check that bytes are gradients of the swarm's codec, and not too many.

    Raises:
        Malformed: saying what is wrong with them.
    """
    width = WIDTHS[manifest.codec]
    if len(content) % width:
        raise Malformed(f"gradients of {manifest.codec} must be a multiple of {width} bytes, got {len(content)}")
    if not 1 <= len(content) // width <= manifest.samples:
        raise Malformed(f"it must hold 1 to {manifest.samples} gradients, got {len(content) // width}")
    if manifest.codec == "float32":
        values = np.frombuffer(content, "<f4")
        if not (np.abs(values) <= FLOAT32_LIMIT).all():
            raise Malformed(f"a gradient is not finite or beyond {FLOAT32_LIMIT:g}")
    elif manifest.codec == "log9" and (np.frombuffer(content, "<u2") > 0x1FF).any():
        raise Malformed("a gradient has more than nine bits")


def applied_gradients(commit: Commit, manifest: Manifest) -> list[Float64[ndarray, gradients]]:
    """Return the gradients of a round as they are applied, for each machine.

    With ``robust="median"`` no gradient is larger than the median over machines of their largest one (of an even number
    the lower median): a minority that lies moves the weights no further than an honest machine could.
    """
    found = [decode(contribution.gradients, manifest.codec) for contribution in commit.contributions]
    if manifest.robust == "median":
        largest = sorted(float(np.abs(gradients).max()) for gradients in found)
        bound = largest[(len(largest) - 1) // 2]
        found = [np.clip(gradients, -bound, bound) for gradients in found]
    return found


def _nine_bits(gradient: float) -> int:
    sign, power = (int(part) for part in log9_encode(gradient))
    return 0 if sign == 0 else (0x100 if sign < 0 else 0) | (power + 128)


def _nine_bit_table() -> Float64[ndarray, 512]:
    table = np.zeros(512)
    for code in range(512):
        if code & 0xFF:
            table[code] = float(log9_decode(-1 if code & 0x100 else 1, (code & 0xFF) - 128))
    return table


_LOG8 = np.asarray(log8_table(), np.float64)
_LOG9 = _nine_bit_table()
