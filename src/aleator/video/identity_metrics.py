"""Is it the same person, does one frame differ from another, was the photograph copied? From features of an embedder.

    similarity = mean over frames of max(0, cos(reference, frame))
    variation  = population standard deviation over frames of cos(reference, frame)
    copying    = mean over frames of cos(reference, frame), and 1 − mean cosine of two different frames,

the last with features of what should change, pose or expression, and not of who it is. Published values of "FID" for
identity are distances of features to those of one reference and no Fréchet distances: `feature_distance` has that, and
`frechet_distance` the distance of two Gaussians, ‖μ_1 − μ_2‖² + tr(Σ_1 + Σ_2 − 2 (Σ_1 Σ_2)^{1/2}).

S. Yuan et al., ConsisID, arXiv 2411.17440 (similarity, clamped at 0); D. Dowson and B. Landau, 1982 (Fréchet distance).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F


class CopyPaste(NamedTuple):
    """How much of a photograph reappears.

    Attributes:
        nearness: mean cosine of the reference's and the frames' features, of the batch's shape; 1 is a copy.
        diversity: one minus the mean cosine of two different frames' features, alike; 0 is a frozen face.
    """

    nearness: Tensor
    diversity: Tensor


def identity_similarity(
    reference: Float[Tensor, "*batch dim"], frames: Float[Tensor, "*batch frame dim_frames"], *, clamp: bool = True
) -> Float[Tensor, "*batch"]:
    """Return the mean over frames of their cosine with the reference.

    Args:
        reference: features of who should be seen.
        frames: features of who is.
        clamp: whether a negative cosine counts as 0, as in public evaluations.

    Raises:
        ValueError: if features have different widths, or there is no frame.
    """
    cosines = _cosines(reference, frames)
    return (cosines.clamp(min=0) if clamp else cosines).mean(-1)


def identity_variation(
    reference: Float[Tensor, "*batch dim"], frames: Float[Tensor, "*batch frame dim_frames"]
) -> Float[Tensor, "*batch"]:
    """Return the population standard deviation over frames of their cosine with the reference, which is not clamped.

    Raises:
        ValueError: if features have different widths, or there is no frame.
    """
    return _cosines(reference, frames).std(-1, correction=0)


def copy_paste(reference: Float[Tensor, "*batch dim"], frames: Float[Tensor, "*batch frame dim_frames"]) -> CopyPaste:
    """Return how near frames are to the photograph, and how far from each other, by features of pose or expression.

    Args:
        reference: features of the photograph, by an embedder of what should change and not of who it is.
        frames: features of the frames, by the same.

    Raises:
        ValueError: if features have different widths, or there are fewer than two frames.
    """
    count = frames.shape[-2]
    if count < 2:
        raise ValueError(f"frames must be at least 2, got {count}")
    nearness = _cosines(reference, frames).mean(-1)
    unit = F.normalize(_wide(frames), dim=-1)
    among = (unit @ unit.transpose(-1, -2)).sum((-1, -2)) - unit.square().sum((-1, -2))
    return CopyPaste(nearness, 1 - among / (count * (count - 1)))


def frechet_distance(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim_y"]) -> Float[Tensor, ""]:
    """Return the squared Fréchet distance of the Gaussians of two samples of features, in float64.

    Covariances divide by n − 1. With Σ = RᵀR, where R is of the QR decomposition of the centred features, the trace of
    the root of their product is the sum of the singular values of R_1 R_2ᵀ: no root is taken of a rounding error, of
    which there are many where there are fewer features than their width.

    Raises:
        ValueError: if widths differ, a sample has fewer than two features, or one of them is not finite.
    """
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"features must have one width, got {x.shape[-1]} and {y.shape[-1]}")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a Fréchet distance needs 2 features of each sample at least, got {len(x)} and {len(y)}")
    x, y = x.double(), y.double()
    if not bool(x.isfinite().all() & y.isfinite().all()):
        raise ValueError("features must be finite, got NaN or an infinity")
    of_x, of_y = (torch.linalg.qr(each - each.mean(0)).R / (len(each) - 1) ** 0.5 for each in (x, y))
    shared = torch.linalg.svdvals(of_x @ of_y.T).sum()
    apart = (x.mean(0) - y.mean(0)).square().sum()
    return apart + of_x.square().sum() + of_y.square().sum() - 2 * shared  # type: ignore[no-any-return]


def feature_distance(
    reference: Float[Tensor, "*batch dim"], frames: Float[Tensor, "*batch frame dim_frames"]
) -> Float[Tensor, "*batch"]:
    """Return the mean over frames of the squared distance to the reference's features: what is published as "FID".

    Raises:
        ValueError: if features have different widths, or there is no frame.
    """
    _check(reference, frames)
    return (_wide(frames) - _wide(reference).unsqueeze(-2)).square().sum(-1).mean(-1)


def _cosines(reference: Tensor, frames: Tensor) -> Tensor:
    _check(reference, frames)
    return torch.cosine_similarity(_wide(reference).unsqueeze(-2), _wide(frames), dim=-1)


def _wide(features: Tensor) -> Tensor:
    """Return features in float32 at least, in which sums over their width are taken."""
    return features.to(torch.promote_types(features.dtype, torch.float32))


def _check(reference: Tensor, frames: Tensor) -> None:
    if reference.shape[-1] != frames.shape[-1]:
        raise ValueError(
            f"features of frames must have the width of the reference's, {reference.shape[-1]}, got {frames.shape[-1]}"
        )
    if not frames.shape[-2]:
        raise ValueError("frames must be at least 1, got 0")
