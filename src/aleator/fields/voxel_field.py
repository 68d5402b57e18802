"""A radiance field in a grid: density and colour at the nodes, interpolated between them.

    σ(x) = softplus(g₀(x) + b) / voxel,    c(x) = sigmoid(g₁₋₃(x)),

with g from `trilinear` and b such that a voxel begins with an opacity of 1 − e^{−softplus(b)} = α₀. Colours do not
depend on where they are seen from. The parametrisation of the density is that of C. Sun, M. Sun and H.-T. Chen, Direct
Voxel Grid Optimization, CVPR 2022.

A field without end has all of space in its grid: half the nodes along each axis are for the box, and what is outside is
drawn in, with |q| the largest coordinate in half sides of the box from its middle,

    q → (2 − 1 / |q|) q / |q|   where |q| > 1,

as J. T. Barron et al., Mip-NeRF 360, CVPR 2022, do with balls.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.fields.trilinear import trilinear


class VoxelField(nn.Module):
    """Density and colour in a cubic grid of nodes over a box.

    Args:
        resolution: nodes along each axis, at least 2.
        low: the corner of the box with the smallest coordinates.
        high: the opposite corner.
        channels: of the colour; 1 is grey.
        opacity: α₀ of one voxel at the beginning, in (0, 1).
        endless: whether what is outside the box is drawn into the grid; ``low`` and ``high`` are infinite then.

    Attributes:
        table: g at the nodes, [resolution³, 1 + channels], zeros at first; x varies fastest.

    Raises:
        ValueError: naming the parameter, the value got and the values accepted.
    """

    low: Tensor
    high: Tensor
    middle: Tensor
    half_side: Tensor

    def __init__(
        self,
        resolution: int,
        low: Sequence[float] = (-1.0, -1.0, -1.0),
        high: Sequence[float] = (1.0, 1.0, 1.0),
        channels: int = 3,
        opacity: float = 0.05,
        *,
        endless: bool = False,
    ) -> None:
        super().__init__()
        if resolution < 2:
            raise ValueError(f"resolution must be at least 2, got {resolution}")
        if channels < 1:
            raise ValueError(f"channels must be at least 1, got {channels}")
        if not 0 < opacity < 1:
            raise ValueError(f"opacity must be in (0, 1), got {opacity}")
        if len(low) != 3 or len(high) != 3 or not all(a < b for a, b in zip(low, high, strict=True)):
            raise ValueError(f"low must be below high along x, y and z, got {tuple(low)} and {tuple(high)}")
        self.resolution, self.channels = resolution, channels
        # log(e^s − 1) for s = −log(1 − α₀)
        self.shift = math.log(math.expm1(-math.log1p(-opacity)))
        self.endless = endless
        corners = torch.tensor([low, high], dtype=torch.get_default_dtype())
        self.register_buffer("middle", corners.mean(0))
        self.register_buffer("half_side", (corners[1] - corners[0]) / 2)
        self.register_buffer("low", torch.full((3,), -torch.inf) if endless else corners[0])
        self.register_buffer("high", torch.full((3,), torch.inf) if endless else corners[1])
        self.table = nn.Parameter(torch.zeros(resolution**3, 1 + channels))

    def forward(
        self,
        origins: Float[Tensor, "rays 3"],
        directions: Float[Tensor, "rays 3"],
        distances: Float[Tensor, "rays samples"],
    ) -> tuple[Float[Tensor, "rays samples"], Float[Tensor, "channel rays samples"]]:
        """Return density and colour at the points of rays; one outside a box is moved to its edge."""
        start, slope = (origins - self.middle) / self.half_side, directions / self.half_side
        x, y, z = (torch.addcmul(start[:, axis, None], slope[:, axis, None], distances).flatten() for axis in range(3))
        density, colour = self._activated(self._rows(x, y, z))
        return density.view_as(distances), colour.view(self.channels, *distances.shape)

    def at(self, points: Float[Tensor, "points 3"]) -> tuple[Float[Tensor, " points"], Float[Tensor, "points channel"]]:
        """Return density and colour at points; one outside a box is moved to its edge."""
        x, y, z = ((points - self.middle) / self.half_side).unbind(1)
        density, colour = self._activated(self._rows(x, y, z))
        return density, colour.t()

    def _rows(self, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Return g at points given in half sides of the box, from its middle."""
        reach = 1.0
        if self.endless:
            farthest = torch.maximum(torch.maximum(x.abs(), y.abs()), z.abs()).clamp(min=1)
            drawn_in = (2 - 1 / farthest) / farthest
            x, y, z = x * drawn_in, y * drawn_in, z * drawn_in
            reach = 2.0
        scale = (self.resolution - 1) / (2 * reach)
        shift = (self.resolution - 1) / 2
        return trilinear(self.table, (self.resolution,) * 3, x * scale + shift, y * scale + shift, z * scale + shift)

    def _activated(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return densities [points] and colours [channel, points] of rows of g."""
        columns = rows.t().contiguous()  # what follows runs over long rows
        voxels = (self.resolution - 1) / (4 if self.endless else 2) / self.half_side.mean()  # to a unit of length
        return F.softplus(columns[0] + self.shift) * voxels, torch.sigmoid(columns[1:])
