"""The scenes of the recipe ``field``: views with cameras, where the scene is, and which views are for what."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from aleator.data import Views, load
from aleator.fields import Cameras, look_at, room_cameras, see_room
from aleator.recipes.field.options import SMALLEST_IMAGE

if TYPE_CHECKING:
    from aleator.recipes.field.options import Field

ROOM_VIEWS, ROOM_TEST, ROOM_VALIDATION = 20, 6, 3
ORBIT_FRAMES = 24
_VALIDATION_EVERY = 20  # of the training views of a data set


@dataclass(frozen=True, eq=False)
class Scene:
    """Views of a scene.

    Attributes:
        colours: of the pixels, float32 in [0, 1], [view, height, width, channel].
        cameras: of the views, float64.
        train: numbers of the views that train.
        validation: of those for validation.
        test: of those for the test.
        near: where rays begin.
        far: where they end, if they did not leave the box before.
        endless: whether there is something behind the box.
        low: the smallest coordinates of a box around the scene.
        high: the largest.
        background: brightness of what is behind.
        opacity: of a voxel at the beginning; small where cameras stand in what is to be learned.
        orbit: cameras on a way around, for a clip.
        distances: true distances of what the pixels see; None where they are not known.
    """

    colours: Tensor
    cameras: Cameras
    train: Tensor
    validation: Tensor
    test: Tensor
    near: float
    far: float
    endless: bool
    low: tuple[float, float, float]
    high: tuple[float, float, float]
    background: float
    opacity: float
    orbit: Cameras
    distances: Tensor | None = None


def scene(options: Field) -> Scene:
    """Return the scene that the options name."""
    return _room(options) if options.data == "room" else _photographed(options)


def _room(options: Field) -> Scene:
    size = options.chosen.size
    assert size is not None  # a room has one
    count, others = options.views or ROOM_VIEWS, ROOM_TEST + ROOM_VALIDATION
    own, held_out = room_cameras(count, size), room_cameras(others, size, held_out=True)
    cameras = Cameras(
        torch.cat([own.poses, held_out.poses]), torch.cat([own.intrinsics, held_out.intrinsics]), size, size
    )
    seen = [see_room(cameras.image_rays(number)) for number in range(len(cameras))]
    shape = (len(cameras), size, size)
    number = torch.arange(len(cameras))
    return Scene(
        torch.stack([each.colour for each in seen]).view(*shape, 3).float(),
        cameras,
        train=number[:count],
        validation=number[count + ROOM_TEST :],
        test=number[count : count + ROOM_TEST],
        near=0.0,
        far=2.5,
        endless=False,
        low=(-1.1, -1.1, -1.1),
        high=(1.1, 1.1, 1.1),
        background=1.0,
        opacity=0.05,
        orbit=_turning(own),
        distances=torch.stack([each.distance for each in seen]).view(shape).float(),
    )


def _turning(cameras: Cameras) -> Cameras:
    """Cameras in the middle that turn once around."""
    angle = torch.arange(ORBIT_FRAMES, dtype=torch.float64) * (2 * torch.pi / ORBIT_FRAMES)
    ahead = torch.stack([angle.cos(), torch.full_like(angle, -0.1), angle.sin()], 1)
    poses = look_at(torch.zeros_like(ahead), ahead, (0.0, 1.0, 0.0))
    return Cameras(poses, cameras.intrinsics[:1].expand(ORBIT_FRAMES, 4), cameras.height, cameras.width)


def _photographed(options: Field) -> Scene:
    found = load(options.data)
    assert isinstance(found, Views)  # the data that are no room and no pictures
    factor = options.chosen.shrink or 1
    colours, cameras = found.colours(), Cameras(found.poses, found.intrinsics, *found.images.shape[1:3])
    most = min(cameras.height, cameras.width) // SMALLEST_IMAGE
    if factor > most:
        raise ValueError(f"shrink must be at most {most}, for images of {SMALLEST_IMAGE} pixels a side, got {factor}")
    if factor > 1:
        pooled = torch.nn.functional.avg_pool2d(colours.permute(0, 3, 1, 2), factor)
        colours, cameras = pooled.permute(0, 2, 3, 1).contiguous(), cameras.shrunk(factor)
    validation = found.train[_VALIDATION_EVERY // 2 :: _VALIDATION_EVERY]
    train = found.train[~torch.isin(found.train, validation)]
    if options.views is not None:
        if options.views > len(train):
            raise ValueError(f"views must be at most {len(train)} for {options.data}, got {options.views}")
        train = train[torch.linspace(0, len(train) - 1, options.views).round().long()]
    x, y, z = found.center
    half = found.half_side
    return Scene(
        colours,
        cameras,
        train=train,
        validation=validation,
        test=found.test,
        near=found.near,
        far=found.far,
        endless=found.endless,
        low=(x - half, y - half, z - half),
        high=(x + half, y + half, z + half),
        background=1.0,
        opacity=0.001 if found.endless else 0.05,
        orbit=_around(cameras, *(torch.tensor(each, dtype=torch.float64) for each in (found.center, found.up))),
    )


def _around(cameras: Cameras, center: Tensor, up: Tensor) -> Cameras:
    """Cameras on a circle around the middle, as far away and as high as the given ones on the average."""
    offsets = cameras.poses[:, :3, 3] - center
    height = (offsets @ up).mean()
    level = offsets - (offsets @ up).unsqueeze(1) * up
    radius = level.norm(dim=1).mean()
    ahead = torch.nn.functional.normalize(level[0], dim=0)
    aside = torch.linalg.cross(up, ahead)
    angle = torch.arange(ORBIT_FRAMES, dtype=torch.float64).unsqueeze(1) * (2 * torch.pi / ORBIT_FRAMES)
    eyes = center + height * up + radius * (angle.cos() * ahead + angle.sin() * aside)
    x, y, z = up.tolist()
    poses = look_at(eyes, center.expand_as(eyes), (x, y, z))
    return Cameras(poses, cameras.intrinsics[:1].expand(ORBIT_FRAMES, 4), cameras.height, cameras.width)
