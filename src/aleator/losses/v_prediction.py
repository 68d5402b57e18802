"""The loss of networks that predict v, a rotation of noise and data.

    x_t = √ᾱ x₀ + √(1 − ᾱ) ε,    v = √ᾱ ε − √(1 − ᾱ) x₀,    ℓ = mean (o − v)²

It is the error of the data guessed from o, x̂₀ = √ᾱ x_t − √(1 − ᾱ) o, with the weight 1/(1 − ᾱ), and has no division by
0 at ᾱ = 1. Under a mask it is Σ ℓ m / Σ m over the whole batch, as in ConsisID's program.

T. Salimans and J. Ho, "Progressive Distillation for Fast Sampling of Diffusion Models", ICLR 2022, arXiv 2202.00512.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from aleator.sde import over_trailing


def v_prediction_loss(
    model_out: Float[Tensor, "batch ..."],
    x0: Float[Tensor, "batch ..."],
    noise: Float[Tensor, "batch ..."],
    t: Int[Tensor, " batch"],
    alphas_cumprod: Float[Tensor, " times"],
    mask: Float[Tensor, ...] | Bool[Tensor, ...] | None = None,
) -> Float[Tensor, ""]:
    """Return the loss in float32 or wider, the mean over all elements or over those of a mask.

    Args:
        model_out: o.
        x0: data.
        noise: ε, standard normal.
        t: training times, one for each sample, as indices of ``alphas_cumprod``.
        alphas_cumprod: ᾱ of all training times, in [0, 1].
        mask: m, not negative, which broadcasts over the shape of ``x0``. If it is 0 everywhere the loss is 0, and so is
            its gradient.

    Raises:
        ValueError: if shapes do not fit, the batch is empty, or, on a CPU, if a time is not one of ``alphas_cumprod``.
    """
    for name, tensor in (("model_out", model_out), ("noise", noise)):
        if tensor.shape != x0.shape:
            raise ValueError(f"{name} must have the shape of x0, {tuple(x0.shape)}, got {tuple(tensor.shape)}")
    if not x0.numel():
        raise ValueError(f"x0 must have a sample, got shape {tuple(x0.shape)}")
    if t.shape != x0.shape[:1]:
        raise ValueError(f"t must have one time for each of {len(x0)} samples, got shape {tuple(t.shape)}")
    if t.device.type == "cpu" and not torch.compiler.is_compiling():
        outside = (t < 0) | (t >= len(alphas_cumprod))
        if bool(outside.any()):
            raise ValueError(f"t must be in [0, {len(alphas_cumprod)}), got {int(t[outside][0])}")
    dtype = torch.promote_types(torch.promote_types(model_out.dtype, x0.dtype), torch.float32)
    alpha = alphas_cumprod.to(t.device).double()[t]
    of_noise, of_data = (over_trailing(value, x0).to(dtype) for value in (alpha.sqrt(), (1 - alpha).sqrt()))
    error = model_out.to(dtype) - (of_noise * noise.to(dtype) - of_data * x0.to(dtype))
    if mask is None:
        return error.square().mean()
    try:
        weights = mask.to(device=x0.device, dtype=dtype).expand(x0.shape)
    except RuntimeError:
        raise ValueError(
            f"mask must broadcast over the shape of x0, {tuple(x0.shape)}, got {tuple(mask.shape)}"
        ) from None
    total = weights.sum()
    # Selected before it is squared: what is not finite outside the mask enters neither the loss nor its gradient.
    chosen = (torch.where(weights > 0, error, 0.0).square() * weights).sum()
    return chosen / torch.where(total > 0, total, 1.0)
