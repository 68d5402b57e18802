"""Sizes of videos, latents and positions in CogVideoX, and the latents of a photograph in the place of a video's.

The autoencoder makes 8 × 8 pixels one latent, and the first frame and then every four frames one latent frame. It makes
an even number of latent frames four times as many frames, so that 13 frames come back as 16: frames must be 1 more than
a multiple of 8. The transformer was trained on at most 49.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

MOST_FRAMES = 49
CHANNELS = 16
TRAINED_SIZES = ((480, 480), (480, 640), (480, 848), (640, 480), (848, 480))
"""Heights and widths in pixels that EchoVideo was trained on."""

_PIXELS, _PATCH = 8, 2  # pixels of a latent, latents of a patch, along each side
_BASE_GRID = (30, 45)  # patches of the base model's 480 × 720


def latent_shape(frames: int, height: int, width: int, *, channels: int = CHANNELS) -> tuple[int, int, int, int]:
    """Return frames, channels, height and width of the latents of a video.

    Args:
        frames: of the video, 1 more than a multiple of 8, at most 49.
        height: in pixels, a multiple of 16.
        width: in pixels, a multiple of 16.
        channels: of the latents.

    Raises:
        ValueError: if a number is another one.
    """
    if frames % 8 != 1 or not 1 <= frames <= MOST_FRAMES:
        accepted = ", ".join(map(str, range(1, MOST_FRAMES + 1, 8)))
        raise ValueError(f"frames must be one of {accepted}, got {frames}")
    _check_size(height, width)
    return (frames - 1) // 4 + 1, channels, height // _PIXELS, width // _PIXELS


def shallow_latents(photo: Float[Tensor, "batch 1 c h w"], frames: int) -> Float[Tensor, "batch frames c h w"]:
    """Return the latents of photographs as those of a video whose first frame they are, with zeros after it.

    Args:
        photo: latents of one frame.
        frames: of the latents that the others have.

    Raises:
        ValueError: if there is more than one frame, or none is asked for.
    """
    if photo.shape[1] != 1:
        raise ValueError(f"photo must have one latent frame, got {photo.shape[1]}")
    if frames < 1:
        raise ValueError(f"frames must be at least 1, got {frames}")
    return torch.cat([photo, photo.new_zeros(len(photo), frames - 1, *photo.shape[2:])], 1)


def rope_crop_region(
    height: int, width: int, *, base_grid: tuple[int, int] = _BASE_GRID
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return where the positions of a video lie in the grid of the base model, in patches.

    The grid of the video, with its aspect, is made as large as fits into the base grid, and put in its middle.

    Args:
        height: of the video in pixels, a multiple of 16.
        width: of the same.
        base_grid: rows and columns of patches that the base model was trained on.

    Returns:
        (top, left) and (bottom, right).

    Raises:
        ValueError: if a size is no multiple of 16.
    """
    _check_size(height, width)
    rows, columns = base_grid
    if height * columns > rows * width:  # higher than the base grid's aspect
        inner = rows, round(rows * width / height)
    else:
        inner = round(columns * height / width), columns
    top, left = round((rows - inner[0]) / 2), round((columns - inner[1]) / 2)
    return (top, left), (top + inner[0], left + inner[1])


def _check_size(height: int, width: int) -> None:
    side = _PIXELS * _PATCH
    for name, size in (("height", height), ("width", width)):
        if size < side or size % side:
            raise ValueError(f"{name} must be a multiple of {side} pixels, got {size}")
