"""The mean of SSIM over windows of pixels in random order, in one pass.

Windows are linear in the products a, b, a², b², ab of a ray, so nothing of size M N is made of colours: a weighted sum
of rows for each window forwards, and backwards, of three numbers for each window and channel, one for each ray.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple, cast

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Places(NamedTuple):
    """Which positions of the orders, one after the other, each window has, and which windows each position is in.

    A position past the end of the orders stands for padding, a window past the end for none.
    """

    of_window: Tensor  # [windows, K²] positions
    weights: Tensor  # [windows, K²]
    of_position: Tensor  # [M, N, q] windows
    weights_back: Tensor  # [M, N, q]


@lru_cache(maxsize=16)
def places_of(
    rays: int,
    repeats: int,
    kernel_size: int,
    stride: int,
    sigma: float,
    padding: str,
    shape: tuple[int, int, int],
    dtype: torch.dtype,
    device: torch.device,
) -> Places:
    """Return the geometry, which is the same in every step; the last few are kept."""
    with torch.inference_mode(False), torch.no_grad():
        images, height, width = shape
        per_image = rays * repeats // images
        pad = (kernel_size - 1) // 2 if padding == "official" else 0
        top, left = (
            torch.arange((side + 2 * pad - kernel_size) // stride + 1) * stride - pad for side in (height, width)
        )
        inside = torch.arange(kernel_size)
        row = (top[:, None, None, None] + inside[:, None]).expand(-1, len(left), -1, kernel_size)
        column = (left[:, None, None] + inside).expand(len(top), -1, kernel_size, -1)
        position = torch.where(
            (row >= 0) & (row < height) & (column >= 0) & (column < width), row * width + column, -1
        ).reshape(-1, kernel_size**2)
        nowhere = rays * repeats
        first = (torch.arange(images) * per_image)[:, None, None]
        of_window = torch.where(position < 0, nowhere, position + first).reshape(-1, kernel_size**2)
        bell = window(kernel_size, sigma, dtype)
        weights = torch.outer(bell, bell).reshape(1, -1).expand(len(of_window), -1).contiguous()

        # The same relation, by position: windows and weights of each, filled up to the largest number with no window.
        flat = of_window.flatten()
        real = flat < nowhere
        by_position, order = flat[real].sort(stable=True)
        windows_of = torch.arange(len(of_window)).repeat_interleave(kernel_size**2)[real][order]
        weights_of = weights.flatten()[real][order]
        counts = torch.bincount(by_position, minlength=nowhere)
        slot = torch.arange(len(by_position)) - (counts.cumsum(0) - counts)[by_position]
        of_position = torch.full((nowhere, int(counts.max())), len(of_window))
        of_position[by_position, slot] = windows_of
        weights_back = torch.zeros(of_position.shape, dtype=dtype)
        weights_back[by_position, slot] = weights_of
        back = (part.view(repeats, rays, -1) for part in (of_position, weights_back))
        return Places(*(part.to(device) for part in (of_window, weights, *back)))


def window(kernel_size: int, sigma: float, dtype: torch.dtype = torch.float64) -> Float[Tensor, " side"]:
    """Return the window's weights along one axis: exp(−(x − K // 2)² / 2σ²), with sum 1; off centre where K is even."""
    x = torch.arange(kernel_size, dtype=torch.promote_types(dtype, torch.float32)) - kernel_size // 2
    bell = torch.exp(-x.square() / (2 * sigma**2))
    return (bell / bell.sum()).to(dtype)


def mean_ssim(
    pred: Float[Tensor, "rays channel"],
    target: Float[Tensor, "rays channel"],
    orders: Int64[Tensor, "orders rays"],
    places: Places,
    data_range: float,
) -> Float[Tensor, ""]:
    """Return the mean SSIM over the windows of all orders and the channels; without autocast's precision."""
    with torch.autocast(pred.device.type, enabled=False):
        return cast("Tensor", _MeanSSIM.apply(pred, target, orders, places, data_range))  # type: ignore[no-untyped-call]


class _MeanSSIM(torch.autograd.Function):
    """Mean SSIM over windows and channels, with a derivative written by hand.

    With the windows' means E of a, b, a², b², ab, and P₁ = A₁ / 2, P₂ = A₂ / 2, the score S = 4 P₁ P₂ / (B₁ B₂) has

        ∂S/∂E_a² = ∂S/∂E_b² = −S / B₂,    ∂S/∂E_ab = 4 P₁ / (B₁ B₂),
        ∂S/∂E_a = 4 μ_b (P₂ − P₁) / (B₁ B₂) + 2 μₐ (S / B₂ − S / B₁),

    and a ray's derivative is the sum over its windows of w (∂S/∂E_a + 2 a ∂S/∂E_a² + b ∂S/∂E_ab). The factor 4 comes
    last. With the usual number of windows a call of torch takes longer than its work, so there are few.
    """

    @staticmethod
    def forward(ctx: Any, pred: Tensor, target: Tensor, orders: Tensor, places: Places, data_range: float) -> Tensor:
        channels = pred.shape[1]
        rays = len(pred)
        rows = torch.cat([pred, target, pred * pred, target * target, pred * target], 1)
        rows = torch.cat([rows, rows.new_zeros(1, 5 * channels)])  # the last is padding
        ray_at = torch.cat([orders.flatten(), orders.new_full((1,), rays)])
        rays_of_window = ray_at.take(places.of_window)
        means = F.embedding_bag(rays_of_window, rows, per_sample_weights=places.weights, mode="sum")
        blocks = means.view(-1, 5, channels).transpose(0, 1).contiguous()  # what follows is elementwise
        mean_a, mean_b, mean_aa, mean_bb, mean_ab = blocks
        c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
        # Of equal images p1 is half of b1 and p2 half of b2, to the bit, and the score is 1.
        product, squares = mean_a * mean_b, (mean_a * mean_a).add_(mean_b * mean_b)
        p2, b2 = (mean_ab - product).add_(c2 / 2), (mean_aa + mean_bb).sub_(squares).add_(c2)
        p1, b1 = product.add_(c1 / 2), squares.add_(c1)
        half = p1 / b1  # not p1 p2 / (b1 b2), which overflows
        quarter, quarter_ab = (p2 / b2).mul_(half), half / b2  # of the score, and of its derivative by E_ab
        ctx.save_for_backward(
            pred, target, mean_a, mean_b, p2.sub_(p1).div_(b1).div_(b2), b1, b2, quarter_ab, quarter, orders, *places
        )
        mean: Tensor = 4 * quarter.mean()
        return mean

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        pred, target, mean_a, mean_b, change, b1, b2, quarter_ab, quarter, orders, *rest = ctx.saved_tensors
        windows_of, windows = _by_ray(orders, Places(*rest))
        scale = gradients[0] * (4 / quarter.numel())
        each = quarter.new_zeros(len(quarter) + 1, 3 * quarter.shape[1])  # the last is no window
        by_mean, by_square, by_ab = torch.split(each[:-1], quarter.shape[1], dim=1)
        torch.div(quarter, b2, out=by_square)  # with the other sign
        by_ab.copy_(quarter_ab)
        apart = by_square - quarter / b1
        found: list[Tensor | None] = []
        for needed, own, other, mean, mean_other in (
            (ctx.needs_input_grad[0], pred, target, mean_a, mean_b),
            (ctx.needs_input_grad[1], target, pred, mean_b, mean_a),
        ):
            if not needed:
                found.append(None)
                continue
            torch.mul(mean_other, change, out=by_mean).addcmul_(mean, apart, value=2)
            summed = F.embedding_bag(windows_of, each, per_sample_weights=windows, mode="sum")
            of_mean, of_square, of_ab = torch.split(summed, pred.shape[1], dim=1)
            found.append(of_mean.addcmul(own, of_square, value=-2).addcmul_(other, of_ab).mul_(scale))
        return (*found, None, None, None)


def _by_ray(orders: Tensor, places: Places) -> tuple[Tensor, Tensor]:
    """Return the windows that each ray is in, over all orders, and its weights there: [N, M q]."""
    repeats, rays = orders.shape
    slots = places.of_position.shape[2]
    index = (orders * repeats + torch.arange(repeats, device=orders.device).unsqueeze(1)).unsqueeze(2)
    if slots > 1:
        index = index * slots + torch.arange(slots, device=orders.device)
    index = index.flatten()
    return tuple(  # type: ignore[return-value]
        torch.empty_like(part).view(-1).scatter_(0, index, part.flatten()).view(rays, -1)
        for part in (places.of_position, places.weights_back)
    )
