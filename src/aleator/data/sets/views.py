"""Views of a scene and single pictures: ``load("nerf-buddha").images``, ``load("images")["astronaut"]``.

A *view* is an image with its camera: the pose (camera to world, x right, y up, looking along −z) and fx, fy, cx, cy in
pixels, where the first pixel reaches from 0 to 1 and its centre is at ½. Images stay the bytes they are in the files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from aleator.data.sets.entries import DatasetInfo
from aleator.data.sets.readers import refusing

_EVERY = 8  # of the views of nerf-buddha one is for testing
# The file says where head and table end, 4.0, and nobody how far the room behind them is.
_BEHIND = 20.0
# Across the right-hand axes of the 28 cameras that were held level, and along those of the 24 that were held on their
# side, which agree to about a degree. The mean of the cameras' own up is 30 degrees off.
_UP_OF_BUDDHA = (0.027, -0.9837, 0.1778)


@dataclass(frozen=True, eq=False)
class Views:
    """Images of one scene, all of one size, with their cameras.

    Attributes:
        name: the data set's name.
        images: the pixels, of 1 (grey), 3 (red, green, blue) or 4 channels (and opacity, colours not multiplied by it).
        poses: camera to world, OpenGL axes: x right, y up, looking along −z.
        intrinsics: fx, fy, cx, cy of each view in pixels, pixel centres at halves.
        train: numbers of the views for training.
        test: numbers of the views for testing.
        near: distance from a camera at which the scene begins.
        far: distance at which it ends.
        center: where the scene is, in world coordinates.
        half_side: half the side of a cube around ``center`` that holds the scene, or what is of interest in it.
        up: the direction that is up in the scene, of length 1. The cameras may have been held in any way.
        endless: whether there is something to be seen behind the cube.
        notes: what a user should know, the terms of the licence among it.
    """

    name: str
    images: UInt8[Tensor, "view height width channel"]
    poses: Float64[Tensor, "view 4 4"]
    intrinsics: Float64[Tensor, "view 4"]
    train: Int64[Tensor, " train"]
    test: Int64[Tensor, " test"]
    near: float
    far: float
    center: tuple[float, float, float]
    half_side: float
    up: tuple[float, float, float]
    endless: bool
    notes: tuple[str, ...]

    def colours(
        self, views: Int64[Tensor, " n"] | slice = slice(None), background: float = 1.0
    ) -> Float[Tensor, "n height width channel"]:
        """Return colours in [0, 1], float32; where there is an opacity, in front of a background of this brightness."""
        pixels = self.images[views].float() / 255
        if pixels.shape[-1] != 4:
            return pixels
        opacity = pixels[..., 3:]
        return pixels[..., :3] * opacity + background * (1 - opacity)


class Pictures(Mapping[str, Tensor]):
    """Single pictures by name, each uint8 [height, width, channel] of 1 or 3 channels.

    Attributes:
        name: the data set's name.
        notes: what a user should know.
    """

    def __init__(self, name: str, pictures: Mapping[str, Tensor], notes: tuple[str, ...]) -> None:
        self.name, self.notes = name, notes
        self._pictures = dict(pictures)

    def __getitem__(self, key: str) -> Tensor:
        return self._pictures[key]

    def __iter__(self) -> Any:
        return iter(self._pictures)

    def __len__(self) -> int:
        return len(self._pictures)


def views(info: DatasetInfo, paths: dict[str, Path], notes: tuple[str, ...]) -> Views:
    """Return the views of a catalogue entry; the files' checksums were compared before.

    Raises:
        ValueError: if the file is not of its format.
    """
    (path,) = paths.values()
    what = "an npz file of views"
    with refusing(path, what, KeyError, TypeError, AttributeError, ValueError, IndexError):
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        return _READERS[info.name](info.name, arrays, notes)


def pictures(info: DatasetInfo, paths: dict[str, Path], notes: tuple[str, ...]) -> Pictures:
    """Return the pictures of a catalogue entry, by the names of their files.

    Raises:
        ValueError: if a file is not an image, or the extra ``fields`` is not there.
    """
    return Pictures(info.name, {path.stem: read_picture(path) for path in paths.values()}, notes)


def read_picture(path: Path) -> UInt8[Tensor, "height width channel"]:
    """Read an image file as bytes of 1, 3 or 4 channels; needs the extra ``fields``.

    Raises:
        ValueError: if the file is not an image of 8 bits, or the extra is not there.
    """
    try:
        import imageio.v3 as imageio
    except ImportError:
        raise ValueError("image files need the extra fields: pip install 'aleator[fields]'") from None
    with refusing(path, "an image", ValueError, TypeError, SyntaxError):
        pixels = np.asarray(imageio.imread(path, plugin="pillow"))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] not in (1, 3, 4):
        raise ValueError(
            f"{path} must be an image of 8 bits with 1, 3 or 4 channels, got {pixels.dtype} {list(pixels.shape)}"
        )
    return torch.from_numpy(np.ascontiguousarray(pixels))


def _buddha(name: str, arrays: dict[str, Any], notes: tuple[str, ...]) -> Views:
    """The grey views; the file's camera matrix has pixel centres at whole numbers."""
    count = len(arrays["gray"])
    matrix = arrays["gray_K"]
    one = [matrix[0, 0], matrix[1, 1], matrix[0, 2] + 0.5, matrix[1, 2] + 0.5]
    test = np.arange(0, count, _EVERY)
    near = float(arrays["near_far"][0])
    x, y, z = (float(value) for value in arrays["center"])
    return _checked(
        Views(
            name,
            torch.from_numpy(arrays["gray"][..., None]),
            torch.from_numpy(arrays["gray_c2w"]),
            torch.tensor([one] * count, dtype=torch.float64),
            train=torch.from_numpy(np.setdiff1d(np.arange(count), test)),
            test=torch.from_numpy(test),
            near=near,
            far=_BEHIND,
            center=(x, y, z),
            half_side=1.0,
            up=_UP_OF_BUDDHA,
            endless=True,
            notes=notes,
        )
    )


def _lego(name: str, arrays: dict[str, Any], notes: tuple[str, ...]) -> Views:
    count, height, width, _ = arrays["rgba"].shape
    (focal,) = arrays["focal"]
    split = np.char.decode(arrays["split"], "ascii")
    one = [float(focal), float(focal), width / 2, height / 2]
    return _checked(
        Views(
            name,
            torch.from_numpy(arrays["rgba"]),
            torch.from_numpy(arrays["c2w"]),
            torch.tensor([one] * count, dtype=torch.float64),
            train=torch.from_numpy(np.flatnonzero(split == "train")),
            test=torch.from_numpy(np.flatnonzero(split == "test")),
            near=2.0,
            far=6.0,
            center=(0.0, 0.0, 0.0),
            half_side=1.3,
            up=(0.0, 0.0, 1.0),
            endless=False,
            notes=notes,
        )
    )


def _checked(made: Views) -> Views:
    count = len(made.train) + len(made.test)
    if made.images.ndim != 4 or made.images.dtype != torch.uint8 or count != len(made.images):
        raise ValueError("its images are not uint8 [view, height, width, channel], each for training or testing")
    if made.poses.shape != (len(made.images), 4, 4) or not made.poses.isfinite().all():
        raise ValueError("its poses are not one finite 4 x 4 matrix for each view")
    return made


_READERS: dict[str, Callable[[str, dict[str, Any], tuple[str, ...]], Views]] = {
    "nerf-buddha": _buddha,
    "nerf-lego-100": _lego,
}
