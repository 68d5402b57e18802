"""The rows x that a linear layer or a convolution multiplies with its weights, and the sum of their products xᵀx.

A convolution is a linear layer on windows of its padded input: a row for every image and output position, of length
n = C/g · k₁ · k₂ …, in each of g groups. Written out (`rows`), the rows of a 7 × 7 stem are larger than its output,
and neighbouring windows share most of what they hold. So `gram` takes windows in all dimensions but the last. There,
entry j of the window at output position o is column t = o·stride + j·dilation of the input, and with a_t for what the
shorter windows hold of column t

    (xᵀx)_{j, j'} = Σ_o a_t a_{t + δ}ᵀ,    δ = (j' − j)·dilation

so one product for each column and each of k distances gives the k² blocks, as sums over columns. It is exact, with any
stride and padding, and done for a few images at a time. Windows that do not overlap, as of patches, are written out.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.conv import _ConvNd

Layer = nn.Linear | nn.Conv1d | nn.Conv2d | nn.Conv3d

# Entries that are written out at a time. On a CPU they should stay in the cache; elsewhere few large launches are
# better, up to a share of the layer's output.
CPU_CHUNK = 2**18
LEAST_CHUNK, SHARE_OF_OUTPUT = 2**20, 1 / 16


def gram(layer: Layer, x: Tensor, dtype: torch.dtype) -> tuple[Float[Tensor, "groups n n"], int]:
    """Return the sum of xᵀx over the rows of each group, and how many rows there are."""
    if isinstance(layer, nn.Linear):
        flat = x.reshape(-1, layer.in_features).to(dtype)
        return (flat.mT @ flat)[None], len(flat)
    count, groups = count_rows(layer, x), layer.groups
    if all(stride >= span for stride, span in zip(layer.stride, _spans(layer), strict=True)):
        x = _batched(layer, x)
        images = max(1, _entries_at_a_time(layer, x) // max(1, x.numel() // max(1, len(x))))
        n = layer.weight[0].numel()
        total = torch.zeros(groups, n, n, dtype=dtype, device=x.device)
        for some in torch.split(x, images):
            part = rows(layer, some, dtype)
            total.baddbmm_(part.mT, part)
        return total, count
    k, dilation, stride = layer.kernel_size[-1], layer.dilation[-1], layer.stride[-1]
    length = math.prod(layer.kernel_size[:-1]) * layer.in_channels // groups
    total = torch.zeros(groups, length, k, length, k, dtype=dtype, device=x.device)
    if count:
        products = _products(layer, x, dtype)
        last = stride * (output_size(layer, x)[-1] - 1) + 1
        for i in range(k):
            for j in range(k - i):
                block = products[i][j * dilation : j * dilation + last : stride].sum(0)
                total[:, :, j, :, j + i] = block
                total[:, :, j + i, :, j] = block.mT
    return total.reshape(groups, length * k, length * k), count


def rows(layer: Layer, x: Tensor, dtype: torch.dtype) -> Float[Tensor, "groups rows n"]:
    """Return the rows of each group, written out."""
    if isinstance(layer, nn.Linear):
        return x.reshape(1, -1, layer.in_features).to(dtype)
    d = len(layer.kernel_size)
    windows = _windows(layer, _padded(layer, _batched(layer, x).to(dtype)), d)
    # From (image, channel, position …, place in the window …) to (image, position …, channel, place in the window …).
    by_row = windows.movedim(1, d + 1).reshape(-1, layer.groups, layer.weight[0].numel())
    return by_row.movedim(1, 0)


def count_rows(layer: Layer, x: Tensor) -> int:
    """Return N, the number of rows."""
    if isinstance(layer, nn.Linear):
        return x.numel() // layer.in_features
    return len(_batched(layer, x)) * math.prod(output_size(layer, x))


def output_size(layer: _ConvNd, x: Tensor) -> list[int]:
    """Return the positions of a convolution's output along each dimension of space."""
    d = len(layer.kernel_size)
    sizes = zip(x.shape[-d:], _padding(layer), _spans(layer), layer.stride, strict=True)
    return [(size + sum(pad) - span) // stride + 1 for size, pad, span, stride in sizes]


def _products(layer: _ConvNd, x: Tensor, dtype: torch.dtype) -> list[Float[Tensor, "columns groups length length"]]:
    """Return, for each distance of two entries in the last dimension of a window, a_t a_{t + δ}ᵀ for every column t."""
    products: list[Tensor] = []
    for part in _columns(layer, x, dtype):
        for i in range(layer.kernel_size[-1]):
            delta = i * layer.dilation[-1]
            product = part[: len(part) - delta] @ part[delta:].mT
            if len(products) == i:
                products.append(product)
            else:
                products[i] += product
    return products


def _columns(layer: _ConvNd, x: Tensor, dtype: torch.dtype) -> Iterator[Float[Tensor, "columns groups length part"]]:
    """Yield a_t for all columns t of a few images at a time, or of a few positions of one image."""
    d = len(layer.kernel_size)
    x = _batched(layer, x)
    size = output_size(layer, x)
    limit = _entries_at_a_time(layer, x)
    per_position = layer.in_channels * math.prod(layer.kernel_size[:-1]) * (x.shape[-1] + sum(_padding(layer)[-1]))
    per_image = per_position * math.prod(size[:-1])
    images = max(1, limit // per_image)
    positions = max(1, limit // (per_image // size[0])) if d > 1 else 1
    for some in torch.split(x, images):
        # Columns outermost in memory first: the larger copies below then read runs of positions.
        by_column = _padded(layer, some.to(dtype)).movedim(-1, 0).contiguous().movedim(0, -1)
        windows = _windows(layer, by_column, d - 1)
        # From (image, channel, position …, column, place in the window …) to (column, channel, place …, image and
        # position …).
        order = [1 + d, 1, *range(2 + d, 1 + 2 * d), 0, *range(2, 1 + d)]
        for part in torch.split(windows, positions, dim=2) if d > 1 else [windows]:
            moved = part.permute(order)
            yield moved.reshape(len(moved), layer.groups, -1, math.prod(moved.shape[d + 1 :]))


def _padded(layer: _ConvNd, x: Tensor) -> Tensor:
    pads = [amount for pair in reversed(_padding(layer)) for amount in pair]
    return F.pad(x, pads, mode="constant" if layer.padding_mode == "zeros" else layer.padding_mode) if any(pads) else x


def _windows(layer: _ConvNd, x: Tensor, dimensions: int) -> Tensor:
    """Return views of the windows of the padded input in the first dimensions of space: their places come last."""
    for axis in range(dimensions):
        x = x.unfold(2 + axis, _spans(layer)[axis], layer.stride[axis])[..., :: layer.dilation[axis]]
    return x


def _entries_at_a_time(layer: _ConvNd, x: Tensor) -> int:
    if x.device.type == "cpu":
        return CPU_CHUNK
    return max(LEAST_CHUNK, int(count_rows(cast("Layer", layer), x) * layer.out_channels * SHARE_OF_OUTPUT))


def _spans(layer: _ConvNd) -> list[int]:
    """Return from where to where a window reaches in each dimension, gaps included."""
    return [dilation * (k - 1) + 1 for dilation, k in zip(layer.dilation, layer.kernel_size, strict=True)]


def _batched(layer: _ConvNd, x: Tensor) -> Tensor:
    return x if x.ndim == layer.weight.ndim else x[None]


def _padding(layer: _ConvNd) -> list[tuple[int, int]]:
    """Return by how much the layer pads each dimension, before and after."""
    if layer.padding == "valid":
        return [(0, 0)] * len(layer.kernel_size)
    if layer.padding == "same":
        totals = [d * (k - 1) for d, k in zip(layer.dilation, layer.kernel_size, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(int(amount), int(amount)) for amount in layer.padding]
