"""Pictures of a field: held-out views next to their renderings, distances, a clip of a way around."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from aleator.experiment import Exhibit
from aleator.fields import psnr

SHOWN = 6  # views
_SMALLEST = 160  # pixels of a side that is shown; smaller images are enlarged
_PAUSE = 120  # milliseconds of a frame
_GAP = 4  # pixels of white between images


def views(rendered: Sequence[Tensor], truth: Sequence[Tensor]) -> Exhibit:
    """Show test views, true above and rendered below."""
    some, true = rendered[:SHOWN], truth[:SHOWN]
    quality = ", ".join(f"{float(psnr(a, b)):.1f}" for a, b in zip(some, true, strict=True))
    return Exhibit(
        f"{len(some)} held-out views",
        f"The true view above, what the field shows below; PSNR {quality} dB.",
        picture=_png(_sheet([[_bytes(image) for image in true], [_bytes(image) for image in some]])),
        file="views.png",
    )


def distances(found: Sequence[Tensor]) -> Exhibit:
    """Show how far the pixels of test views see: near is bright."""
    some = found[:SHOWN]
    nearest, farthest = min(float(d.min()) for d in some), max(float(d.max()) for d in some)
    span = max(farthest - nearest, 1e-9)
    greys = [_bytes((1 - (each - nearest) / span).unsqueeze(2)) for each in some]
    return Exhibit(
        "How far these views see",
        f"The mean distance along each ray, from {nearest:.2f} (white) to {farthest:.2f} (black).",
        picture=_png(_sheet([greys])),
        file="distances.png",
    )


def orbit(frames: Sequence[Tensor]) -> Exhibit:
    """Show the field from cameras on a way around."""
    import imageio.v3 as imageio

    pixels = np.stack([_enlarged(_bytes(frame)) for frame in frames])
    clip = imageio.imwrite("<bytes>", pixels, extension=".gif", plugin="pillow", duration=_PAUSE, loop=0)
    return Exhibit(
        "Once around",
        f"{len(frames)} views that no training camera took, one after the other.",
        picture=bytes(clip),
        file="orbit.gif",
    )


def picture(found: Tensor, truth: Tensor) -> Exhibit:
    """Show a picture, what was learned of it, and by how much they differ."""
    difference = (found - truth).abs().mean(2, keepdim=True)
    return Exhibit(
        "The picture, the field, and their difference",
        f"Left the picture, in the middle what the network shows, right the mean difference of the channels, "
        f"black for 0 and white for {float(difference.max()):.2f}.",
        picture=_png(_sheet([[_bytes(truth), _bytes(found), _bytes(difference / difference.max().clamp(min=1e-9))]])),
        file="picture.png",
    )


def _bytes(image: Tensor) -> npt.NDArray[np.uint8]:
    """Return an image of colours in [0, 1] as bytes in three channels."""
    pixels = (image.clamp(0, 1) * 255).round().to(torch.uint8).cpu().numpy()
    return np.repeat(pixels, 3, 2) if pixels.shape[2] == 1 else pixels


def _enlarged(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    factor = -(-_SMALLEST // min(image.shape[:2]))
    return image.repeat(factor, 0).repeat(factor, 1)


def _sheet(rows: Sequence[Sequence[npt.NDArray[np.uint8]]]) -> npt.NDArray[np.uint8]:
    """Return images in rows and columns, white between them."""
    big = [[_enlarged(image) for image in row] for row in rows]
    height, width = big[0][0].shape[:2]
    sheet = np.full((len(big) * (height + _GAP) - _GAP, len(big[0]) * (width + _GAP) - _GAP, 3), 255, np.uint8)
    for i, row in enumerate(big):
        for j, image in enumerate(row):
            top, left = i * (height + _GAP), j * (width + _GAP)
            sheet[top : top + height, left : left + width] = image
    return sheet


def _png(pixels: npt.NDArray[np.uint8]) -> bytes:
    import imageio.v3 as imageio

    written: Any = imageio.imwrite("<bytes>", pixels, extension=".png", plugin="pillow")
    return bytes(written)
