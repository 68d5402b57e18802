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
    unit = F.normalize(frames, dim=-1)
    among = (unit @ unit.transpose(-1, -2)).sum((-1, -2)) - unit.square().sum((-1, -2))
    return CopyPaste(nearness, 1 - among / (count * (count - 1)))


def frechet_distance(x: Float[Tensor, "n dim"], y: Float[Tensor, "m dim_y"]) -> Float[Tensor, ""]:
    """Return the squared Fréchet distance of the Gaussians of two samples of features, in float64.

    Covariances divide by n − 1. The root of their product comes from symmetric matrices: its trace is that of
    (Σ_1^{1/2} Σ_2 Σ_1^{1/2})^{1/2}.

    Raises:
        ValueError: if widths differ, or a sample has fewer than two features.
    """
    if x.shape[-1] != y.shape[-1]:
        raise ValueError(f"features must have one width, got {x.shape[-1]} and {y.shape[-1]}")
    if min(len(x), len(y)) < 2:
        raise ValueError(f"a Fréchet distance needs 2 features of each sample at least, got {len(x)} and {len(y)}")
    x, y = x.double(), y.double()
    of_x, of_y = (torch.cov(each.T).view(each.shape[1], -1) for each in (x, y))
    values, vectors = torch.linalg.eigh(of_x)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    shared = torch.linalg.eigvalsh(root @ of_y @ root).clamp(min=0).sqrt().sum()
    return (x.mean(0) - y.mean(0)).square().sum() + of_x.trace() + of_y.trace() - 2 * shared  # type: ignore[no-any-return]


def feature_distance(
    reference: Float[Tensor, "*batch dim"], frames: Float[Tensor, "*batch frame dim_frames"]
) -> Float[Tensor, "*batch"]:
    """Return the mean over frames of the squared distance to the reference's features: what is published as "FID".

    Raises:
        ValueError: if features have different widths, or there is no frame.
    """
    _check(reference, frames)
    return (frames - reference.unsqueeze(-2)).square().sum(-1).mean(-1)


def _cosines(reference: Tensor, frames: Tensor) -> Tensor:
    _check(reference, frames)
    return torch.cosine_similarity(reference.unsqueeze(-2), frames, dim=-1)


def _check(reference: Tensor, frames: Tensor) -> None:
    if reference.shape[-1] != frames.shape[-1]:
        raise ValueError(
            f"features of frames must have the width of the reference's, {reference.shape[-1]}, got {frames.shape[-1]}"
        )
    if not frames.shape[-2]:
        raise ValueError("frames must be at least 1, got 0")
