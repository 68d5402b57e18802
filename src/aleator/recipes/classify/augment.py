"""Augmentation of image batches: flips and crops as tensor operations, without a loop over the batch."""

from __future__ import annotations

import torch
from jaxtyping import Shaped
from torch import Tensor
from torch.nn import functional as F


def flip(images: Shaped[Tensor, "batch c h w"], generator: torch.Generator) -> Shaped[Tensor, "batch c h w"]:
    """Mirror each image left to right with probability one half.

    Args:
        images: any dtype, on the generator's device.
        generator: draws one number for each image.
    """
    mirrored = torch.rand(len(images), generator=generator, device=images.device) < 0.5
    return torch.where(mirrored[:, None, None, None], images.flip(3), images)


def crop(
    images: Shaped[Tensor, "batch c h w"], generator: torch.Generator, padding: int = 4
) -> Shaped[Tensor, "batch c h w"]:
    """Cut each image at its own size out of itself padded with zeros, at a uniformly random place.

    Args:
        images: any dtype, on the generator's device.
        generator: draws two numbers for each image.
        padding: pixels on every side, at least 0.
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, (padding,) * 4)
    corner = torch.randint(2 * padding + 1, (2, batch), generator=generator, device=images.device)
    rows = corner[0, :, None] + torch.arange(height, device=images.device)
    columns = corner[1, :, None] + torch.arange(width, device=images.device)
    image = torch.arange(batch, device=images.device)[:, None, None, None]
    channel = torch.arange(channels, device=images.device)[None, :, None, None]
    return padded[image, channel, rows[:, None, :, None], columns[:, None, None, :]]
