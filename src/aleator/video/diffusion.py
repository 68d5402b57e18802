"""The diffusion of CogVideoX: 1000 steps, the signal gone in the last, and a network that predicts the velocity.

    x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε,    v = √ᾱ_t ε − √(1 − ᾱ_t) x_0,    x_0 = √ᾱ_t x_t − √(1 − ᾱ_t) v.

β_t is the square of a line from √0.00085 to √0.012; then √ᾱ is shifted and stretched so that it keeps its first value
and ends in 0. These are the settings of the 5B checkpoint; the schedulers' own defaults in diffusers are others.

S. Lin et al., "Common Diffusion Noise Schedules and Sample Steps are Flawed", arXiv 2305.08891 (the rescaling);
T. Salimans and J. Ho, arXiv 2202.00512 (the velocity); J. Song et al., DDIM, arXiv 2010.02502 (the sampler).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from aleator.video.guidance import guided, trailing_timesteps


def alphas_cumprod(
    train_steps: int = 1000, beta_start: float = 0.00085, beta_end: float = 0.012
) -> Float64[Tensor, " steps"]:
    """Return ᾱ of every training timestep, the last one 0.

    Args:
        train_steps: number of them, at least 2.
        beta_start: β of the first, in (0, 1).
        beta_end: β of the last, in (0, 1).

    Raises:
        ValueError: if a value is out of its range.
    """
    if train_steps < 2:
        raise ValueError(f"train_steps must be at least 2, got {train_steps}")
    for name, beta in (("beta_start", beta_start), ("beta_end", beta_end)):
        if not 0 < beta < 1:
            raise ValueError(f"{name} must be in (0, 1), got {beta}")
    betas = torch.linspace(beta_start**0.5, beta_end**0.5, train_steps, dtype=torch.float64).square()
    root = (1 - betas).cumprod(0).sqrt()
    first, last = root[0].clone(), root[-1].clone()
    return ((root - last) * (first / (first - last))).square()


def add_noise(
    x0: Float[Tensor, batch * shape],
    noise: Float[Tensor, batch * shape],
    t: Int[Tensor, " batch"],
    alphas_cumprod: Float[Tensor, " steps"],
) -> Float[Tensor, batch * shape]:
    """Return x_t.

    Args:
        x0: clean samples.
        noise: ε.
        t: timestep of each sample.
        alphas_cumprod: ᾱ of every timestep.
    """
    signal, spread = _factors(x0, t, alphas_cumprod)
    return signal * x0 + spread * noise


def velocity_target(
    x0: Float[Tensor, batch * shape],
    noise: Float[Tensor, batch * shape],
    t: Int[Tensor, " batch"],
    alphas_cumprod: Float[Tensor, " steps"],
) -> Float[Tensor, batch * shape]:
    """Return v, with the arguments of `add_noise`."""
    signal, spread = _factors(x0, t, alphas_cumprod)
    return signal * noise - spread * x0


@torch.no_grad()
def sample_clips(
    predict: Callable[[Tensor, Tensor, Mapping[str, Tensor]], Tensor],
    noise: Float[Tensor, batch * shape],
    condition: Mapping[str, Tensor],
    negative: Mapping[str, Tensor],
    scales: Float[Tensor, " steps"],
    alphas_cumprod: Float[Tensor, " train_steps"],
) -> Float[Tensor, batch * shape]:
    """Return samples of the deterministic DDIM sampler, with guidance.

    Args:
        predict: noisy samples, timesteps [batch] and conditions → velocities.
        noise: where the sampler begins.
        condition: of each sample, by names.
        negative: of the negative branch, see `aleator.video.negative_condition`.
        scales: guidance scale of every step, see `aleator.video.guidance_schedule`.
        alphas_cumprod: ᾱ of every timestep.
    """
    steps = trailing_timesteps(len(scales), len(alphas_cumprod)).tolist()
    levels = [float(alphas_cumprod[t]) for t in steps] + [1.0]
    x = noise
    for step, (t, scale) in enumerate(zip(steps, scales.tolist(), strict=True)):

        def at_t(samples: Tensor, given: Mapping[str, Tensor], t: int = t) -> Tensor:
            return predict(samples, torch.full((len(samples),), t, device=samples.device), given)

        velocity = guided(at_t, x, condition, negative, scale)
        signal, spread = levels[step] ** 0.5, (1 - levels[step]) ** 0.5
        clean, found = signal * x - spread * velocity, spread * x + signal * velocity
        x = levels[step + 1] ** 0.5 * clean + (1 - levels[step + 1]) ** 0.5 * found
    return x


def _factors(like: Tensor, t: Tensor, alphas_cumprod: Tensor) -> tuple[Tensor, Tensor]:
    level = alphas_cumprod.to(like.device).double()[t].view(-1, *(1,) * (like.dim() - 1))
    return level.sqrt().to(like.dtype), (1 - level).sqrt().to(like.dtype)
