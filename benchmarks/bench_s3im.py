"""The cost of S3IM, and of a field's training step, on one CPU thread; seconds are of CPU time.

The peer of the loss is the published form written plainly: M orders of the rays are copied and laid out as one image,
and five convolutions give the windows' means. The peer of the field is the same field, renderer and optimizer written
plainly: `grid_sample`, a running product of what is let through, and autograd. Two ways to be faster elsewhere are
measured as well, and are not in the library: the levels of a hash encoding with a small network in the place of the
grid, and leaving out samples where a grid of occupancy says that there is nothing, both on the lookups alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.fields import Rays, VoxelField, box_range, render, room_cameras, see_room, trilinear
from aleator.losses import S3IM
from aleator.random import Streams
from benchmarks.pairs import interleave

LOW, HIGH, FAR = (-1.1, -1.1, -1.1), (1.1, 1.1, 1.1), 2.5
in_turn = partial(interleave, clock=time.process_time)


def benchmark() -> list[dict[str, Any]]:
    """Return peer / ours for the loss and for training steps, and what S3IM adds to a step."""
    rows = []
    for rays, height in ((4096, 64), (1024, 32)):
        loss = in_turn(_loss(rays, height), _plain_loss(rays, height), pairs=15, number=10)
        rows.append(loss.row(f"S3IM forward and backward, {rays} rays, M = 10", "gather, five convolutions", "≥ 2"))
    for rays, samples, nodes in ((1024, 64, 40), (4096, 64, 64)):
        where = f"{rays} rays, {samples} samples, {nodes}³ nodes"
        step = in_turn(_step(rays, samples, nodes), _plain_step(rays, samples, nodes), pairs=9, number=3)
        rows.append(step.row(f"training step of the field, {where}", "grid_sample, autograd", "≥ 1.5"))
    for rays, samples, nodes in ((1024, 64, 40), (4096, 64, 64), (4096, 128, 128)):
        where = f"{rays} rays, {samples} samples, {nodes}³ nodes"
        with_s3im = in_turn(_step(rays, samples, nodes, s3im=True), _step(rays, samples, nodes), pairs=9, number=3)
        rows.append(with_s3im.row(f"what S3IM adds to a step, {where}", "without", "≤ 0.05", figure="overhead"))
    lookups = in_turn(_lookups(65536, 1.0), _hash_encoding(65536), pairs=7)
    rows.append(
        lookups.row("65 536 lookups, forward and backward, 40³ nodes", "eight levels and an MLP, nothing hashed", "–")
    )
    for share in (0.5, 0.1):
        some = in_turn(_lookups(65536, 1.0), _lookups(65536, share), pairs=7)
        rows.append(
            some.row("65 536 lookups, forward and backward", f"those of {share:.0%}, by an occupancy grid", "–")
        )
    return rows


def _generator(name: str) -> torch.Generator:
    return Streams(0).generator(name)


# --- the loss


def _loss(rays: int, height: int) -> Callable[[], None]:
    loss, (a, b) = S3IM(patch_height=height, generator=_generator("orders")), _colours(rays)
    return lambda: torch.autograd.backward(loss(a, b))


def _colours(rays: int) -> tuple[Tensor, Tensor]:
    a, b = torch.rand(2, rays, 3, generator=_generator("colours"))
    return a.requires_grad_(), b


def _plain_loss(rays: int, height: int) -> Callable[[], None]:
    (a, b), generator = _colours(rays), _generator("orders")
    x = torch.arange(4) - 2
    bell = torch.exp(-x.square() / (2 * 1.5**2))
    bell = bell / bell.sum()
    kernel = torch.outer(bell, bell).expand(3, 1, 4, 4).contiguous()
    means = partial(F.conv2d, weight=kernel, stride=4, padding=1, groups=3)

    def step() -> None:
        drawn = [torch.randperm(rays, generator=generator) for _ in range(9)]
        index = torch.cat([torch.arange(rays), *drawn])
        p, q = (colours[index].T.reshape(1, 3, height, -1) for colours in (a, b))
        mp, mq = means(p), means(q)
        pp, qq, pq = means(p * p) - mp**2, means(q * q) - mq**2, means(p * q) - mp * mq
        score = (2 * mp * mq + 1e-4) * (2 * pq + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (pp + qq + 9e-4))
        torch.autograd.backward(1 - score.mean())

    return step


# --- a step of the field


def _pixels() -> tuple[Rays, Tensor]:
    cameras = room_cameras(20, 40).to(torch.device("cpu"), torch.float32)
    views = [cameras.image_rays(number) for number in range(len(cameras))]
    rays = Rays(*(torch.cat(part) for part in zip(*views, strict=True)))
    return rays, see_room(rays).colour


def _stepping(
    model: nn.Module, rendered: Callable[[Rays, Tensor], Tensor], rays: int, samples: int, s3im: bool
) -> Callable[[], None]:
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05, betas=(0.9, 0.99), fused=True)
    everything, colours = _pixels()
    generator = _generator("pixels")
    similarity = S3IM(patch_height=64 if rays == 4096 else 32, generator=_generator("orders"))

    def step() -> None:
        chosen = torch.randint(len(colours), (rays,), generator=generator)
        places = torch.rand(rays, samples, generator=generator)
        seen = rendered(Rays(*(part.index_select(0, chosen) for part in everything)), places)
        truth = colours.index_select(0, chosen)
        loss = F.mse_loss(seen, truth)
        if s3im:
            loss = loss + similarity(seen, truth)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

    return step


def _step(rays: int, samples: int, nodes: int, *, s3im: bool = False) -> Callable[[], None]:
    field = VoxelField(nodes, LOW, HIGH)
    return _stepping(
        field, lambda some, places: render(field, some, 0.0, FAR, samples, places=places).colour, rays, samples, s3im
    )


class _PlainField(nn.Module):
    """The field of `VoxelField`, as one writes it with `grid_sample`."""

    def __init__(self, nodes: int) -> None:
        super().__init__()
        ours = VoxelField(nodes, LOW, HIGH)
        self.shift, self.voxels = ours.shift, (nodes - 1) / 2.2
        self.volume = nn.Parameter(torch.zeros(1, 4, nodes, nodes, nodes))

    def forward(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return density [rays, samples] and colour [rays, samples, 3] at points [rays, samples, 3]."""
        places = (points / 1.1).unsqueeze(0).unsqueeze(0)
        rows = F.grid_sample(self.volume, places, align_corners=True, padding_mode="border")[0, :, 0]
        return F.softplus(rows[0] + self.shift) * self.voxels, torch.sigmoid(rows[1:]).permute(1, 2, 0)


def _plain_step(rays: int, samples: int, nodes: int) -> Callable[[], None]:
    field = _PlainField(nodes)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)

    def rendered(some: Rays, places: Tensor) -> Tensor:
        begin, end = box_range(some, low, high, 0.0, FAR)
        piece = ((end - begin) / samples).unsqueeze(1)
        distances = begin.unsqueeze(1) + (torch.arange(samples) + places) * piece
        density, colour = field(some.origins.unsqueeze(1) + distances.unsqueeze(2) * some.directions.unsqueeze(1))
        opacity = 1 - torch.exp(-density * piece)
        through = torch.cumprod(torch.cat([torch.ones(rays, 1), 1 - opacity], 1), 1)
        return (opacity * through[:, :-1]).unsqueeze(2).mul(colour).sum(1) + through[:, -1:]

    return _stepping(field, rendered, rays, samples, s3im=False)


# --- what is not in the library


def _points(count: int) -> Tensor:
    return torch.rand(3, count, generator=_generator("points"))


def _lookups(count: int, occupied: float) -> Callable[[], None]:
    """Look rows up in a grid of 40³ nodes, of which samples in this share of the cells are left."""
    table = torch.zeros(40**3, 4, requires_grad=True)
    x, y, z = _points(count) * 39
    occupancy = torch.rand(39**3, generator=_generator("occupancy")) < occupied
    gradient = torch.rand(count, 4, generator=_generator("gradient"))

    def step() -> None:
        if occupied == 1:
            torch.autograd.backward(trilinear(table, (40, 40, 40), x, y, z), gradient)
        else:
            cell = (z.long() * 39 + y.long()) * 39 + x.long()
            kept = occupancy.index_select(0, cell).nonzero().squeeze(1)
            chosen = (axis.index_select(0, kept) for axis in (x, y, z))
            rows = torch.zeros(count, 4).index_copy(0, kept, trilinear(table, (40, 40, 40), *chosen))
            torch.autograd.backward(rows, gradient)
        table.grad = None

    return step


def _hash_encoding(count: int) -> Callable[[], None]:
    """Look rows of two up in eight grids, with a network of 32 behind them: the least that a hash encoding costs.

    The grids are looked up as ours is, and no index is hashed.
    """
    tables = [torch.zeros(32**3, 2, requires_grad=True) for _ in range(8)]
    network = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 4))
    x, y, z = _points(count) * 31
    gradient = torch.rand(count, 4, generator=_generator("gradient"))

    def step() -> None:
        encoded = torch.cat([trilinear(table, (32, 32, 32), x, y, z) for table in tables], 1)
        torch.autograd.backward(network(encoded), gradient)

    return step
