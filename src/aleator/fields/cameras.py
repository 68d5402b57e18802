"""Cameras and their rays: which line in space a pixel looks along.

A pinhole camera with pose (R, o), camera to world, and fx, fy, cx, cy in pixels sees in the pixel of row i and column
j, whose centre is at (j + ½, i + ½),

    o + t d,    d ∝ R ((j + ½ − cx) / fx, −(i + ½ − cy) / fy, −1),    |d| = 1,

with x right, y up and the view along −z, as OpenGL, Blender and nerfstudio have it. Distances t are along the ray.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int64
from torch import Tensor


class Rays(NamedTuple):
    """Rays o + t d with directions d of length 1."""

    origins: Float[Tensor, "rays 3"]
    directions: Float[Tensor, "rays 3"]


@dataclass(frozen=True, eq=False)
class Cameras:
    """Pinhole cameras of images of one size.

    Attributes:
        poses: camera to world, rotation and place; x right, y up, view along −z.
        intrinsics: fx, fy, cx, cy of each, in pixels; the first pixel reaches from 0 to 1.
        height: pixels of an image.
        width: pixels of an image.

    Raises:
        ValueError: if shapes do not fit, a number is not finite, a focal length or a size is not positive, or a
            rotation is none.
    """

    poses: Float[Tensor, "camera 4 4"]
    intrinsics: Float[Tensor, "camera 4"]
    height: int
    width: int

    def __post_init__(self) -> None:
        """Check what would otherwise become a picture of nothing."""
        count = len(self.poses)
        if self.poses.shape != (count, 4, 4) or self.intrinsics.shape != (count, 4):
            raise ValueError(
                f"poses and intrinsics must have shapes [cameras, 4, 4] and [cameras, 4], got {list(self.poses.shape)} "
                f"and {list(self.intrinsics.shape)}"
            )
        if self.height < 1 or self.width < 1:
            raise ValueError(f"height and width must be at least 1, got {self.height} and {self.width}")
        for name, numbers in (("poses", self.poses), ("intrinsics", self.intrinsics)):
            finite = numbers.flatten(1).isfinite().all(1)
            if not finite.all():
                raise ValueError(f"{name} must be finite, got those of camera {int((~finite).nonzero()[0])}")
        if not (self.intrinsics[:, :2] > 0).all():
            raise ValueError(f"focal lengths must be positive, got {float(self.intrinsics[:, :2].min()):g}")
        rotations = self.poses[:, :3, :3]
        error = (rotations @ rotations.mT - torch.eye(3).to(rotations)).abs().amax((1, 2))
        if count and error.max() > 1e-3:
            worst = int(error.argmax())
            off = f"camera {worst} that is off by {float(error[worst]):g}"
            raise ValueError(f"poses must have orthonormal rotations, got one of {off}")
        mirrored = torch.linalg.det(rotations) < 0
        if mirrored.any():
            raise ValueError(f"poses must not mirror, got that of camera {int(mirrored.nonzero()[0])}, which does")

    def __len__(self) -> int:
        return len(self.poses)

    def rays(self, camera: Int64[Tensor, " rays"], row: Int64[Tensor, " rays"], column: Int64[Tensor, " rays"]) -> Rays:
        """Return the rays through the centres of pixels, in the type of the poses."""
        fx, fy, cx, cy = self.intrinsics.index_select(0, camera).unbind(1)
        x = (column + 0.5 - cx) / fx
        y = -(row + 0.5 - cy) / fy
        local = torch.stack([x, y, -torch.ones_like(x)], 1)
        poses = self.poses.index_select(0, camera)
        directions = (poses[:, :3, :3] @ local.unsqueeze(2)).squeeze(2)
        return Rays(poses[:, :3, 3], directions / directions.norm(dim=1, keepdim=True))

    def image_rays(self, camera: int) -> Rays:
        """Return the rays of all pixels of an image, row by row."""
        pixel = torch.arange(self.height * self.width, device=self.poses.device)
        return self.rays(torch.full_like(pixel, camera), pixel // self.width, pixel % self.width)

    def to(self, device: torch.device, dtype: torch.dtype) -> Cameras:
        """Return the cameras on a device, in a type."""
        return Cameras(self.poses.to(device, dtype), self.intrinsics.to(device, dtype), self.height, self.width)

    def shrunk(self, factor: int) -> Cameras:
        """Return the cameras of images of which ``factor`` × ``factor`` pixels became one; the rest is cut off."""
        return Cameras(self.poses, self.intrinsics / factor, self.height // factor, self.width // factor)


def focal_length(pixels: int, angle: float) -> float:
    """Return the focal length, in pixels, of a camera that sees ``angle`` radians over so many pixels."""
    return 0.5 * pixels / math.tan(0.5 * angle)


def look_at(
    eye: Float[Tensor, "camera 3"], target: Float[Tensor, "camera 3"], up: tuple[float, float, float]
) -> Float[Tensor, "camera 4 4"]:
    """Return the poses of cameras at ``eye`` that look at ``target``, upright with respect to ``up``.

    Raises:
        ValueError: if a camera looks along ``up``.
    """
    back = torch.nn.functional.normalize(eye - target, dim=1)
    right = torch.linalg.cross(torch.tensor(up).to(eye).expand_as(back), back)
    length = right.norm(dim=1, keepdim=True)
    if bool((length < 1e-6).any()):
        raise ValueError(f"up must not be the direction of a view, got {up}")
    right = right / length
    poses = torch.eye(4).to(eye).repeat(len(eye), 1, 1)
    poses[:, :3] = torch.stack([right, torch.linalg.cross(back, right), back, eye], 2)
    return poses
