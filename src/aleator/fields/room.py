"""A room without data files: a scene of closed formulas, for neural fields that are seen from inside.

A cube with sides from −1 to 1, whose walls have a checker and waves in a colour of their own, and two spheres with
rings. Cameras stand within 0.25 of the middle and look outwards, one after the other turned by the golden angle, so
that the first n of them look around evenly for every n. Colours and distances are exact, where a ray meets a wall or a
sphere.

The scene is fixed: it was written before any field was trained in it with another loss than the squared error.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.fields.cameras import Cameras, Rays, focal_length, look_at

VIEW_ANGLE = math.radians(70)
_GOLDEN_ANGLE = math.pi * (3 - math.sqrt(5))
# Middle, radius, colour, rings to the diameter.
_SPHERES = (
    ((0.62, -0.30, -0.45), 0.28, (0.85, 0.35, 0.20), 6.0),
    ((-0.55, 0.15, 0.50), 0.22, (0.20, 0.45, 0.80), 4.0),
)
# Of the walls at x = −1, 1, y = −1, 1, z = −1, 1.
_WALLS = (
    (0.75, 0.30, 0.30),
    (0.30, 0.65, 0.35),
    (0.55, 0.45, 0.35),
    (0.80, 0.80, 0.75),
    (0.35, 0.40, 0.75),
    (0.75, 0.65, 0.25),
)
_CHECKERS, _WAVES = 4.0, 3.0  # checkers to a side's half, waves to a side's half


class SeenRoom(NamedTuple):
    """What rays from inside the room meet."""

    colour: Float[Tensor, "rays 3"]
    distance: Float[Tensor, " rays"]


def room_cameras(count: int, size: int, *, held_out: bool = False) -> Cameras:
    """Return cameras inside the room; those that are held out look between the others, from other places.

    Args:
        count: how many; fewer are the first of more.
        size: pixels of an image along each side.
        held_out: whether they are for testing.

    Raises:
        ValueError: if there is no camera or no pixel.
    """
    if count < 1 or size < 1:
        raise ValueError(f"count and size must be at least 1, got {count} and {size}")
    number = torch.arange(count, dtype=torch.float64) + (0.5 if held_out else 0.0)
    yaw = number * _GOLDEN_ANGLE
    pitch = 0.35 * torch.sin(2.4 * number + 1.0)
    place = 0.25 * torch.stack([torch.sin(1.3 * number), 0.6 * torch.sin(0.7 * number), torch.cos(1.9 * number)], 1)
    place = place / place.norm(dim=1, keepdim=True).clamp(min=0.25) * 0.25
    ahead = torch.stack([yaw.cos() * pitch.cos(), pitch.sin(), yaw.sin() * pitch.cos()], 1)
    focal = focal_length(size, VIEW_ANGLE)
    intrinsics = torch.tensor([focal, focal, size / 2, size / 2], dtype=torch.float64).repeat(count, 1)
    return Cameras(look_at(place, place + ahead, (0.0, 1.0, 0.0)), intrinsics, size, size)


def see_room(rays: Rays) -> SeenRoom:
    """Return the colour and the distance of what rays that begin inside the room meet."""
    origins, directions = rays
    beyond = torch.where(directions > 0, 1.0, -1.0)
    to_walls = (beyond - origins) / directions
    to_walls = torch.where(directions == 0, torch.inf, to_walls)
    distance, axis = to_walls.min(1)
    points = origins + distance.unsqueeze(1) * directions
    side = (directions.gather(1, axis.unsqueeze(1)).squeeze(1) > 0).long()
    paint = torch.tensor(_WALLS).to(origins)[2 * axis + side]
    along = torch.stack([points[:, 1], points[:, 2], points[:, 0]], 1).gather(1, axis.unsqueeze(1)).squeeze(1)
    across = torch.stack([points[:, 2], points[:, 0], points[:, 1]], 1).gather(1, axis.unsqueeze(1)).squeeze(1)
    checker = ((_CHECKERS * along).floor() + (_CHECKERS * across).floor()) % 2
    waves = torch.sin(math.pi * _WAVES * along) * torch.sin(math.pi * _WAVES * across)
    colour = paint * (0.55 + 0.35 * checker + 0.1 * waves).unsqueeze(1)
    for middle, radius, own, rings in _SPHERES:
        center = torch.tensor(middle).to(origins)
        from_center = origins - center
        half = (from_center * directions).sum(1)
        inside_root = half.square() - from_center.square().sum(1) + radius**2
        met = -half - inside_root.clamp(min=0).sqrt()
        hit = (inside_root > 0) & (met > 0) & (met < distance)
        height = (from_center[:, 1] + met * directions[:, 1]) / radius
        ring = 0.7 + 0.3 * torch.sin(math.pi * rings * height)
        colour = torch.where(hit.unsqueeze(1), torch.tensor(own).to(origins) * ring.unsqueeze(1), colour)
        distance = torch.where(hit, met, distance)
    return SeenRoom(colour, distance)
