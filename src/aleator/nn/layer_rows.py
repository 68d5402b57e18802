"""The rows x that a linear layer or a convolution multiplies with its weights, and the sum of their products xᵀx.

A convolution is a linear layer on windows of its padded input: a row for every image and output position, of length
n = C/g · k₁ · k₂ …, in each of g groups. Written out (`rows`), the rows of a 7 × 7 stem are larger than its output.
Their products are therefore summed chunk by chunk (`gram`). A window is a strided view, so a chunk costs one copy, also
where stride and kernel are equal and the rows are the input in another order.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d

# Entries of a chunk. On a CPU it should stay in the cache; elsewhere few large launches are better, up to a share of
# the layer's output.
CPU_CHUNK = 2**18
LEAST_CHUNK, SHARE_OF_OUTPUT = 2**20, 1 / 16


def gram(layer: Layer, x: Tensor, dtype: torch.dtype) -> tuple[Float[Tensor, "groups n n"], int]:
    """Return the sum of xᵀx over the rows of each group, and how many rows there are."""
    if isinstance(layer, nn.Linear):
        flat = x.reshape(-1, layer.in_features).to(dtype)
        return (flat.mT @ flat)[None], len(flat)
    total, count = None, 0
    for part in _chunks(layer, x, dtype):
        total = part @ part.mT if total is None else torch.baddbmm(total, part, part.mT)
        count += part.shape[-1]
    if total is None:
        n = layer.weight[0].numel()
        total = torch.zeros(layer.groups, n, n, dtype=dtype, device=x.device)
    return total, count


def rows(layer: Layer, x: Tensor, dtype: torch.dtype) -> Float[Tensor, "groups rows n"]:
    """Return the rows of each group, written out."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, layer.in_features).to(dtype)
    return torch.cat(list(_chunks(layer, x, dtype)), dim=-1).mT


def count_rows(layer: Layer, x: Tensor) -> int:
    """Return N, the number of rows."""
    if isinstance(layer, nn.Linear):
        return x.numel() // layer.in_features
    images = x.shape[0] if x.ndim == layer.weight.ndim else 1
    return images * math.prod(output_size(layer, x))


def output_size(layer: _ConvNd, x: Tensor) -> list[int]:
    """Return the positions of a convolution's output along each dimension of space."""
    d = len(layer.kernel_size)
    sizes = []
    for axis, size in enumerate(x.shape[-d:]):
        before, after = _padding(layer)[axis]
        span = layer.dilation[axis] * (layer.kernel_size[axis] - 1) + 1
        sizes.append((size + before + after - span) // layer.stride[axis] + 1)
    return sizes


def _chunks(layer: _ConvNd, x: Tensor, dtype: torch.dtype) -> Iterator[Float[Tensor, "groups n part"]]:
    """Yield the rows as columns, so many at a time."""
    d = len(layer.kernel_size)
    if x.ndim == d + 1:
        x = x[None]
    kernel, g = layer.kernel_size, layer.groups
    size = output_size(layer, x)
    limit = CPU_CHUNK
    if x.device.type != "cpu":
        limit = max(LEAST_CHUNK, int(len(x) * math.prod(size) * layer.out_channels * SHARE_OF_OUTPUT))
    per_slice = math.prod(size[1:]) * layer.in_channels * math.prod(kernel)
    images = max(1, limit // (per_slice * size[0]))
    slices = max(1, limit // (per_slice * images))
    pads = [amount for pair in reversed(_padding(layer)) for amount in pair]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    for some in torch.split(x, images):
        windows = some.to(dtype)
        if any(pads):
            windows = F.pad(windows, pads, mode=mode)
        for axis in range(d):
            span = layer.dilation[axis] * (kernel[axis] - 1) + 1
            windows = windows.unfold(2 + axis, span, layer.stride[axis])[..., :: layer.dilation[axis]]
        # From (image, channel, position …, place in the window …) to (group, channel and place, image and position).
        order = [1, *range(2 + d, 2 + 2 * d), 0, *range(2, 2 + d)]
        for part in torch.split(windows, slices, dim=2):
            yield part.permute(order).reshape(g, layer.in_channels // g * math.prod(kernel), -1)


def _padding(layer: _ConvNd) -> list[tuple[int, int]]:
    """Return by how much the layer pads each dimension, before and after."""
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(amount), int(amount)) for amount in layer.padding]
