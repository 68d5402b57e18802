"""S3IM: structural similarity of pixels in random order, a loss for neural fields that are trained on random rays.

The N rays of a step are put in random order π and laid out as an image; the rendered and the true colours in the same
order are compared by SSIM in windows of K × K, and this is repeated for M orders:

    S3IM = 1/M Σₘ SSIM(Pₘ(Ĉ), Pₘ(C)),    L = L_MSE + λ (1 − S3IM),

    SSIM = (2 μₐ μ_b + C₁)(2 σ_ab + C₂) / ((μₐ² + μ_b² + C₁)(σₐ² + σ_b² + C₂)).

A window so compares means, variances and covariances of K² rays from anywhere in the data, for no further ray.

Z. Xie et al., S3IM: Stochastic Structural SIMilarity and Its Unreasonable Effectiveness for Neural Fields, ICCV 2023,
arXiv 2308.07032. Layout, padding and window are those of the authors' code, `Madaoer/S3IM-Neural-Fields`.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from aleator.losses.windowed_ssim import mean_ssim, places_of

Layout = Literal["super", "separate"]
Padding = Literal["official", "valid"]


class S3IM(nn.Module):
    """The loss 1 − S3IM of the colours of a batch of rays; multiply by λ and add it to the squared error.

    It has no parameters and no state: the orders come from ``generator``, which belongs to whoever made it, and with
    several processes each has its own. With ``DistributedDataParallel`` every process compares its own rays. The value
    is not a mean over rays: it cannot be weighted by ray, and of a batch in pieces it is another number than of the
    whole batch.

    Args:
        kernel_size: K, the side of a window.
        stride: from one window to the next; K or more leaves no pixel in two windows.
        repeats: M, the number of orders.
        patch_height: H, the rows of the image.
        patch_width: W, its columns, in the layout ``super`` for each order; the batch must have H · W rays. None takes
            what the rays fill, N M // H columns in all (``super``) or N // H (``separate``), and leaves out the rest,
            fewer than H positions of an image.
        sigma: of the window's Gauss bell, in pixels.
        padding: zeros around the image, (K − 1) // 2 wide as in the authors' code, or ``"valid"`` for none. Zeros count
            as black pixels, in both images alike.
        layout: ``"super"`` puts all orders into one image, as the authors' code does, so that windows may mix pixels
            of neighbouring orders; ``"separate"`` makes an image of each, as the formula says.
        data_range: of the colours, R: C₁ = (0.01 R)², C₂ = (0.03 R)².
        include_identity: whether the first order is the given one, as in the authors' code.
        generator: draws the orders, on the device of the rays. It is needed unless there is nothing to draw.

    Raises:
        ValueError: naming the parameter, the value got and the values accepted.

    Example:
        >>> loss = S3IM(patch_height=8, generator=torch.Generator().manual_seed(0))
        >>> rendered, true = torch.rand(64, 3, requires_grad=True), torch.rand(64, 3)
        >>> (torch.nn.functional.mse_loss(rendered, true) + 1.0 * loss(rendered, true)).backward()
    """

    def __init__(
        self,
        kernel_size: int = 4,
        stride: int = 4,
        repeats: int = 10,
        patch_height: int = 64,
        patch_width: int | None = None,
        *,
        sigma: float = 1.5,
        padding: Padding = "official",
        layout: Layout = "super",
        data_range: float = 1.0,
        include_identity: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.settings: dict[str, Any] = {
            "kernel_size": kernel_size,
            "stride": stride,
            "repeats": repeats,
            "patch_height": patch_height,
            "patch_width": patch_width,
            "sigma": sigma,
            "padding": padding,
            "layout": layout,
            "data_range": data_range,
            "include_identity": include_identity,
        }
        _check_settings(**self.settings)
        self.generator = generator

    def forward(
        self,
        pred: Float[Tensor, "rays channel"],
        target: Float[Tensor, "rays channel"],
        permutations: Int64[Tensor, "orders kept"] | None = None,
        mask: Bool[Tensor, " rays"] | None = None,
    ) -> Float[Tensor, ""]:
        """Return 1 − S3IM, in [0, 2]; see `s3im`."""
        return 1 - s3im(pred, target, permutations, mask, **self.settings, generator=self.generator)

    @property
    def fewest_rays(self) -> int:
        """The smallest number of rays that fill an image; with a width the only one."""
        height, width = self.settings["patch_height"], self.settings["patch_width"]
        if width is not None:
            return int(height * width)
        return _fewest(height, self.settings["kernel_size"], self.settings["repeats"], self.settings["layout"])

    def extra_repr(self) -> str:
        """Return the settings."""
        return ", ".join(f"{name}={value}" for name, value in self.settings.items())


def s3im(
    pred: Float[Tensor, "rays channel"],
    target: Float[Tensor, "rays channel"],
    permutations: Int64[Tensor, "orders kept"] | None = None,
    mask: Bool[Tensor, " rays"] | None = None,
    *,
    kernel_size: int = 4,
    stride: int = 4,
    repeats: int = 10,
    patch_height: int = 64,
    patch_width: int | None = None,
    sigma: float = 1.5,
    padding: Padding = "official",
    layout: Layout = "super",
    data_range: float = 1.0,
    include_identity: bool = True,
    generator: torch.Generator | None = None,
) -> Float[Tensor, ""]:
    """Return the stochastic structural similarity of rendered and true colours, 1 where they are equal.

    It is computed in float32, under autocast too, or in float64 where an input is. Both inputs may have gradients;
    second derivatives are not there.

    Args:
        pred: rendered colours of N rays, at least one channel.
        target: their true colours.
        permutations: the orders after the given one, [M − 1, N] of the N rays that take part, or all M without
            ``include_identity``; None draws them. Given ones are checked, for which the host waits for the device.
        mask: the rays that take part; the others are dropped before an image is made. The host waits for the device.
        kernel_size: K; see `S3IM`, also for what follows.
        stride: see `S3IM`.
        repeats: see `S3IM`.
        patch_height: see `S3IM`.
        patch_width: see `S3IM`.
        sigma: see `S3IM`.
        padding: see `S3IM`.
        layout: see `S3IM`.
        data_range: see `S3IM`.
        include_identity: see `S3IM`.
        generator: see `S3IM`.

    Raises:
        ValueError: if shapes differ or are not [N, C], colours are not floating point, the rays do not fill a patch,
            given orders are not permutations, orders have to be drawn and there is no generator on the rays' device,
            or, on a CPU, if a colour is not finite. Elsewhere, where to look would mean to wait for the device, the
            result is NaN then.
    """
    _check_settings(
        kernel_size=kernel_size,
        stride=stride,
        repeats=repeats,
        patch_height=patch_height,
        patch_width=patch_width,
        sigma=sigma,
        padding=padding,
        layout=layout,
        data_range=data_range,
        include_identity=include_identity,
    )
    pred, target = _colours(pred, target, mask)
    rays, device = len(pred), pred.device
    shape = _image_shape(rays, repeats, patch_height, patch_width, layout, kernel_size)
    places = places_of(rays, repeats, kernel_size, stride, float(sigma), padding, shape, pred.dtype, device)
    orders = _orders(rays, repeats, include_identity, permutations, generator, device)
    return mean_ssim(pred, target, orders, places, data_range)


def s3im_weight(step: int, total_steps: int, weight: float = 1.0, *, rise: float = 0.0, fall: float = 0.0) -> float:
    """Return λ at a step: it rises from 0 in the first steps, stays, and falls to 0 over the last.

    Args:
        step: the number of steps taken before, from 0.
        total_steps: of the training.
        weight: λ in between.
        rise: share of the steps after which λ has risen, in [0, 1]. With 0 it is ``weight`` from the first step.
        fall: share of the steps over which it falls, in [0, 1 − rise]. It would be 0 at ``step = total_steps``.

    Raises:
        ValueError: if a share or the weight is out of range, or there is no such step.
    """
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}")
    if not 0 <= step <= total_steps:
        raise ValueError(f"step must be in [0, {total_steps}], got {step}")
    if not 0 <= weight < float("inf"):
        raise ValueError(f"weight must be finite and not negative, got {weight}")
    if not 0 <= rise <= 1:
        raise ValueError(f"rise must be in [0, 1], got {rise}")
    if not (fall >= 0 and rise + fall <= 1):  # 1 − 0.93 is less than 0.07
        raise ValueError(f"fall must be in [0, {1 - rise:g}], one minus rise, got {fall}")
    up = min(1.0, step / (rise * total_steps)) if rise else 1.0
    down = min(1.0, (total_steps - step) / (fall * total_steps)) if fall else 1.0
    return weight * up * down


def _check_settings(
    *,
    kernel_size: int,
    stride: int,
    repeats: int,
    patch_height: int,
    patch_width: int | None,
    sigma: float,
    padding: str,
    layout: str,
    data_range: float,
    include_identity: bool,
) -> None:
    del include_identity
    counts: tuple[tuple[str, object], ...] = (("kernel_size", kernel_size), ("stride", stride), ("repeats", repeats))
    for name, count in counts:
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"{name} must be a whole number of at least 1, got {count}")
    for name, side in (("patch_height", patch_height), ("patch_width", patch_width)):
        if side is not None and not isinstance(side, int):
            raise ValueError(f"{name} must be a whole number, got {side}")
        if side is not None and side < kernel_size:
            raise ValueError(f"{name} must be at least kernel_size, {kernel_size}, got {side}")
    for name, value in (("sigma", sigma), ("data_range", data_range)):
        if not 0 < value < float("inf"):
            raise ValueError(f"{name} must be positive and finite, got {value}")
    if padding not in ("official", "valid"):
        raise ValueError(f"padding must be official or valid, got {padding!r}")
    if layout not in ("super", "separate"):
        raise ValueError(f"layout must be super or separate, got {layout!r}")


def _colours(pred: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the colours that take part, in the type that is computed in."""
    if pred.ndim != 2 or pred.shape[1] == 0:
        raise ValueError(f"pred must have shape [rays, channels], got {list(pred.shape)}")
    if pred.shape != target.shape:
        raise ValueError(f"target must have the shape of pred, {list(pred.shape)}, got {list(target.shape)}")
    for name, colours in (("pred", pred), ("target", target)):
        if not colours.dtype.is_floating_point:
            raise ValueError(f"{name} must be floating point, got {colours.dtype}")
    if mask is not None:
        if mask.dtype != torch.bool or mask.shape != pred.shape[:1]:
            raise ValueError(f"mask must be bool of shape [{len(pred)}], got {mask.dtype} {list(mask.shape)}")
        pred, target = pred[mask], target[mask]
    dtype = torch.promote_types(torch.promote_types(pred.dtype, target.dtype), torch.float32)
    pred, target = pred.to(dtype), target.to(dtype)
    if pred.device.type == "cpu" and not torch.compiler.is_compiling():
        for name, colours in (("pred", pred), ("target", target)):
            if not math.isfinite(colours.detach().sum().item()):  # one pass; only finite colours have a finite sum
                bad = ~colours.isfinite().all(1)
                if not bad.any():  # too large to be added up
                    continue
                first = int(bad.nonzero()[0])
                raise ValueError(
                    f"{name} must be finite, got {int(bad.sum())} rays that are not, the first ray {first}"
                )
    return pred, target


def _image_shape(
    rays: int, repeats: int, height: int, width: int | None, layout: str, kernel_size: int
) -> tuple[int, int, int]:
    """Return (images, rows, columns)."""
    if width is not None:
        if height * width != rays:
            raise ValueError(
                f"pred must have patch_height * patch_width = {height} * {width} = {height * width} rays, got {rays}; "
                f"patch_width=None takes any number of at least {_fewest(height, kernel_size, repeats, layout)}"
            )
        return (1, height, width * repeats) if layout == "super" else (repeats, height, width)
    fewest = _fewest(height, kernel_size, repeats, layout)
    if rays < fewest:
        raise ValueError(
            f"pred must have at least {fewest} rays to fill {height} rows of {kernel_size} pixels with {repeats} "
            f"orders, got {rays}"
        )
    return (1, height, rays * repeats // height) if layout == "super" else (repeats, height, rays // height)


def _fewest(height: int, kernel_size: int, repeats: int, layout: str) -> int:
    return -(-height * kernel_size // (repeats if layout == "super" else 1))


def _orders(
    rays: int,
    repeats: int,
    include_identity: bool,
    given: Tensor | None,
    generator: torch.Generator | None,
    device: torch.device,
) -> Tensor:
    """Return the orders, [M, N], on the device."""
    drawn = repeats - include_identity
    if given is not None:
        if given.dtype != torch.int64 or given.shape != (drawn, rays):
            raise ValueError(
                f"permutations must be int64 of shape [{drawn}, {rays}], got {given.dtype} {list(given.shape)}"
            )
        orders = given.to(device)
        if not torch.equal(orders.sort(1).values, torch.arange(rays, device=device).expand(drawn, rays)):
            raise ValueError(f"permutations must each hold every number from 0 to {rays - 1} once")
    elif drawn == 0:
        orders = torch.empty(0, rays, dtype=torch.int64, device=device)
    else:
        if generator is None:
            raise ValueError("generator must be given where orders have to be drawn, got None")
        if generator.device.type != device.type:
            raise ValueError(f"generator must be on the rays' device, {device}, got {generator.device}")
        orders = _drawn(drawn, rays, generator, device)
    if not include_identity:
        return orders
    return torch.cat([torch.arange(rays, device=device).unsqueeze(0), orders])


def _drawn(count: int, rays: int, generator: torch.Generator, device: torch.device) -> Tensor:
    if device.type == "cpu":  # nine orders of 4,096 take a twelfth of the time of sorting random numbers
        return torch.stack([torch.randperm(rays, generator=generator) for _ in range(count)])
    return torch.rand(count, rays, generator=generator, device=device).argsort(1)
