"""Who is on a photograph: faces are found and known by what a user brings, for no weights of faces are shipped.

A detector says where faces are, with five points each: the eyes, the tip of the nose, the corners of the mouth. The
largest face is brought to the place that recognisers expect, by the similarity transform that fits the points best by
least squares (S. Umeyama, 1991), and cut out. An encoder makes a vector of it that says who it is.

A generated likeness of a real person needs that person's consent.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from aleator.data import read_picture

CROP = 512  # pixels of a side
_LONGEST = 1024  # pixels of a photograph's longer side, beyond which it is shrunk
# Where ArcFace expects the five points: x and y in an image of 96 × 112 pixels.
TEMPLATE = (
    (30.2946, 51.6963),
    (65.5318, 51.5014),
    (48.0252, 71.7366),
    (33.5493, 92.3655),
    (62.7299, 92.2041),
)
_TEMPLATE_SIZE = (96, 112)


class Face(NamedTuple):
    """A face that a detector found.

    Attributes:
        box: left, top, right and bottom in pixels.
        points: x and y of both eyes, the nose and both corners of the mouth, in pixels.
    """

    box: tuple[float, float, float, float]
    points: Float[Tensor, "5 2"]

    @property
    def area(self) -> float:
        """Of the box, in pixels."""
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


@runtime_checkable
class FaceDetector(Protocol):
    """Finds faces."""

    def __call__(self, image: UInt8[Tensor, "height width 3"]) -> Sequence[Face]:
        """Return the faces of an image, none where there is none."""
        ...


@runtime_checkable
class FaceEncoder(Protocol):
    """Says who somebody is."""

    width: int
    """Of the vectors."""

    def __call__(self, faces: UInt8[Tensor, "face height width 3"]) -> Float[Tensor, "face width"]:
        """Return a vector of each aligned face."""
        ...


@dataclass(frozen=True, eq=False)
class References:
    """Photographs of people.

    Attributes:
        files: in which a face was found.
        crops: the aligned faces.
        identity: their vectors, not normalised.
        refused: of each other file, a line that names it and says why.
    """

    files: tuple[str, ...]
    crops: UInt8[Tensor, "face side side 3"]
    identity: Float[Tensor, "face width"]
    refused: Mapping[str, str]


def read_references(
    files: Sequence[str | Path], detector: FaceDetector, encoder: FaceEncoder, *, id_dim: int | None = None
) -> References:
    """Read photographs; one without a face is named and left out, the others go on.

    Args:
        files: of photographs, in colour or grey.
        detector: finds faces; of several the largest counts.
        encoder: makes a vector of each.
        id_dim: the width that a model expects; None for any.

    Raises:
        ValueError: if the encoder's vectors have another width.
    """
    if id_dim is not None and encoder.width != id_dim:
        raise ValueError(f"an identity vector must have the width {id_dim}, got an encoder of {encoder.width}")
    crops: dict[str, Tensor] = {}
    refused: dict[str, str] = {}
    for file in map(str, files):
        try:
            crops[file] = aligned_face(read_picture(Path(file)), detector)
        except (ValueError, OSError) as error:
            refused[file] = f"{file}: {error}"
    side = torch.zeros(0, CROP, CROP, 3, dtype=torch.uint8)
    stacked = torch.stack(list(crops.values())) if crops else side
    identity = encoder(stacked) if crops else torch.zeros(0, encoder.width)
    if identity.shape != (len(crops), encoder.width):
        raise ValueError(
            f"an encoder of width {encoder.width} must return [{len(crops)}, {encoder.width}], "
            f"got {list(identity.shape)}"
        )
    return References(tuple(crops), stacked, identity, refused)


def aligned_face(
    image: UInt8[Tensor, "height width channel"], detector: FaceDetector, *, side: int = CROP
) -> UInt8[Tensor, "side side 3"]:
    """Return the largest face of an image, turned, scaled and moved to where recognisers expect it.

    An image whose longer side has more than 1024 pixels is shrunk to that first, with antialiasing.

    Raises:
        ValueError: if no face is found, or it has no five points that are finite and apart.
    """
    colour = _shrunk(image.expand(-1, -1, 3) if image.shape[2] == 1 else image[..., :3])
    found = detector(colour.contiguous())
    if not found:
        raise ValueError("no face was found")
    points = max(found, key=lambda face: face.area).points.double()
    if points.shape != (len(TEMPLATE), 2) or not points.isfinite().all() or bool((points == points[0]).all()):
        raise ValueError(f"a face must have five points that are finite and apart, got {points.tolist()}")
    target = torch.tensor(TEMPLATE, dtype=torch.float64) * side / torch.tensor(_TEMPLATE_SIZE, dtype=torch.float64)
    matrix, offset = similarity_transform(target, points)
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.float64),) * 2, indexing="ij")
    places = torch.stack([columns, rows], -1) @ matrix.T + offset
    height, width = colour.shape[:2]
    grid = 2 * (places + 0.5) / torch.tensor([width, height], dtype=torch.float64) - 1
    pixels = colour.permute(2, 0, 1).unsqueeze(0).float()
    crop = F.grid_sample(pixels, grid.unsqueeze(0).float(), align_corners=False)
    return crop[0].permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)


def _shrunk(image: Tensor) -> Tensor:
    longest = max(image.shape[:2])
    if longest <= _LONGEST:
        return image
    size = [max(1, round(side * _LONGEST / longest)) for side in image.shape[:2]]
    pixels = F.interpolate(image.permute(2, 0, 1).unsqueeze(0).float(), size, mode="bilinear", antialias=True)
    return pixels[0].permute(1, 2, 0).round().to(torch.uint8)


def similarity_transform(
    source: Float[Tensor, "points 2"], target: Float[Tensor, "points 2"]
) -> tuple[Float[Tensor, "2 2"], Float[Tensor, " 2"]]:
    """Return A and b with A a scaled rotation, for which A s + b is nearest to the target in squares.

    Raises:
        ValueError: if the source's points are one point.
    """
    centre, aim = source.mean(0), target.mean(0)
    spread = (source - centre).square().sum()
    if not spread > 0:
        raise ValueError("points of a face must not all be one point")
    u, values, v = torch.linalg.svd((target - aim).T @ (source - centre))
    sign = torch.ones(2, dtype=source.dtype)
    sign[1] = torch.linalg.det(u @ v).sign()  # no reflection
    matrix = (values * sign).sum() / spread * (u * sign) @ v
    return matrix, aim - matrix @ centre
