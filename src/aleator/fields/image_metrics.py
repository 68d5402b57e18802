"""How alike two images are: peak signal-to-noise ratio and structural similarity.

    PSNR = −10 log₁₀ MSE dB,    SSIM: the mean over all windows of 11 × 11 that fit, weighted by a bell of σ = 1.5,

for colours in [0, 1]. These are the measures that papers on neural fields print; the windows of `aleator.losses.s3im`
are others, and its values cannot be compared with these.

Z. Wang et al., Image Quality Assessment: From Error Visibility to Structural Similarity, IEEE TIP 13 (2004).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

_SIDE, _SIGMA = 11, 1.5


def psnr(
    image: Float[Tensor, "*batch height width channel"], truth: Float[Tensor, "*batch height width channel"]
) -> Float[Tensor, "*batch"]:
    """Return the PSNR of each image in dB; infinite where it is the truth.

    Raises:
        ValueError: if the shapes differ, or colours are not floating point.
    """
    image, truth = _alike(image, truth)
    return -10 * torch.log10((image - truth).square().mean((-3, -2, -1)))


def ssim(
    image: Float[Tensor, "*batch height width channel"], truth: Float[Tensor, "*batch height width channel"]
) -> Float[Tensor, "*batch"]:
    """Return the SSIM of each image, 1 where it is the truth, computed in float64.

    Raises:
        ValueError: if the shapes differ, colours are not floating point, or an image is smaller than a window.
    """
    image, truth = _alike(image, truth)
    height, width, channels = image.shape[-3:]
    if min(height, width) < _SIDE:
        raise ValueError(f"images must be at least {_SIDE} x {_SIDE} pixels for SSIM, got {height} x {width}")
    batch = image.shape[:-3]
    a, b = (
        x.reshape(-1, height, width, channels).permute(0, 3, 1, 2).flatten(0, 1).unsqueeze(1) for x in (image, truth)
    )
    x = torch.arange(_SIDE, dtype=a.dtype, device=a.device) - _SIDE // 2
    bell = torch.exp(-x.square() / (2 * _SIGMA**2))
    bell = (bell / bell.sum()).view(1, 1, -1, 1)

    def mean(values: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(values, bell), bell.mT)

    mean_a, mean_b = mean(a), mean(b)
    variances = mean(a * a) - mean_a.square() + mean(b * b) - mean_b.square()
    covariance = mean(a * b) - mean_a * mean_b
    scores = (2 * mean_a * mean_b + 1e-4) * (2 * covariance + 9e-4)
    scores = scores / ((mean_a.square() + mean_b.square() + 1e-4) * (variances + 9e-4))
    return scores.flatten(1).mean(1).view(-1, channels).mean(1).view(batch)


def _alike(image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    if image.shape != truth.shape or image.ndim < 3:
        raise ValueError(
            f"truth must be [..., height, width, channel] like image, got {list(image.shape)} and {list(truth.shape)}"
        )
    for name, colours in (("image", image), ("truth", truth)):
        if not colours.dtype.is_floating_point:
            raise ValueError(f"{name} must be floating point, with colours in [0, 1], got {colours.dtype}")
    return image.double(), truth.double()
