"""Pictures of generated clips: a sheet beside photographs and true clips, and a clip that plays."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional as F

from aleator.experiment import Exhibit
from aleator.recipes.identity.sources import Clips, Kind

SHOWN = 12  # clips
_SMALLEST, _GAP = 64, 3  # pixels of a frame's side, and of white between frames
_PAUSE = 400  # milliseconds of a frame

_WORDS: dict[Kind, str] = {
    "same": "the photograph agrees with what is asked for",
    "conflict": "the photograph differs from what is asked for: light and a block of digits, another moment of faces",
}


def clips(kind: Kind, of: Clips, generated: Tensor) -> list[Exhibit]:
    """Show clips, one in a column: the photograph, the true frames, the generated frames; and the last to play."""
    some = slice(SHOWN)
    size = generated.shape[-1]
    photo = of.photo[some]
    border = (size - photo.shape[-1]) // 2
    rows = [F.pad(photo, (border,) * 4), *of.clips[some].unbind(1), *generated[some].unbind(1)]
    frames = [_sheet([frame]) for frame in generated[some].unbind(1)]
    return [
        Exhibit(
            f"Generated clips, {kind}",
            f"In each column the photograph, the true frames and the generated ones; {_WORDS[kind]}.",
            picture=_written(_sheet(rows), ".png"),
            file=f"clips-{kind}.png",
        ),
        Exhibit(
            f"Generated clips, {kind}, playing",
            f"The generated frames one after the other; {_WORDS[kind]}.",
            picture=_written(np.stack(frames), ".gif"),
            file=f"clips-{kind}.gif",
        ),
    ]


def _sheet(rows: Sequence[Tensor]) -> npt.NDArray[np.uint8]:
    """Return images [n, channel, side, side] in rows, white between them."""
    factor = -(-_SMALLEST // rows[0].shape[-1])
    lines = []
    for row in rows:
        big = row.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
        framed = F.pad(big.expand(-1, 3, -1, -1), (0, _GAP, 0, _GAP), value=1.0)
        lines.append(torch.cat(list(framed), 2))
    sheet = torch.cat(lines, 1)[:, :-_GAP, :-_GAP]
    return (sheet.clamp(0, 1) * 255).round().to(torch.uint8).permute(1, 2, 0).contiguous().numpy()


def _written(pixels: npt.NDArray[np.uint8], extension: str) -> bytes:
    import imageio.v3 as imageio

    options: dict[str, Any] = {"duration": _PAUSE, "loop": 0} if extension == ".gif" else {}
    return bytes(imageio.imwrite("<bytes>", pixels, extension=extension, plugin="pillow", **options))
