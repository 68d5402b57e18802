"""Clips and their latents, through the autoencoders of ``diffusers``: which numbers of frames survive, and the scale.

A causal video autoencoder encodes the first frame alone and then r at a time (r = 4 for Wan, HunyuanVideo and
CogVideoX), so n latent frames are 1 + r (n − 1) frames. ``AutoencoderKLWan`` drops what is left over without a word;
here it is refused. Transformers are trained on latents of about unit variance:

    Wan          z = (latent − mean)/std, channel by channel
    the others   z = scaling_factor · (latent − shift_factor)
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor


def check_frames(autoencoder: Any, frames: int) -> None:
    """Check that a causal video autoencoder keeps all frames.

    Raises:
        ValueError: naming the number and those next to it that fit.
    """
    r = _compression(autoencoder)
    if frames < 1 or (frames - 1) % r:
        low = 1 + r * max(0, (frames - 1) // r)
        raise ValueError(f"frames must be 1 more than a multiple of {r}, such as {low} or {low + r}, got {frames}")


def encode(
    autoencoder: Any,
    clips: Float[Tensor, "clip channel frame height width"],
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "clip channels latent_frame rows columns"]:
    """Return the latents that a transformer is trained on.

    Args:
        autoencoder: of ``diffusers``, such as ``AutoencoderKLWan``; in ``eval()``.
        clips: in [−1, 1].
        generator: draws from the distribution that the autoencoder gives; None takes its mode.

    Raises:
        ValueError: if frames would be dropped.
    """
    check_frames(autoencoder, clips.shape[2])
    with torch.no_grad():
        found = autoencoder.encode(clips.to(autoencoder.dtype)).latent_dist
    latents = (found.mode() if generator is None else found.sample(generator)).to(clips.dtype)
    shift, scale = _scale(autoencoder, latents)
    return (latents - shift) * scale  # type: ignore[no-any-return]


def decode(
    autoencoder: Any, latents: Float[Tensor, "clip channels latent_frame rows columns"]
) -> Float[Tensor, "clip channel frame height width"]:
    """Return the clips of latents, in about [−1, 1]; differentiable in the latents."""
    shift, scale = _scale(autoencoder, latents)
    clips = autoencoder.decode((latents / scale + shift).to(autoencoder.dtype), return_dict=False)[0]
    return clips.to(latents.dtype)  # type: ignore[no-any-return]


def _compression(autoencoder: Any) -> int:
    config = autoencoder.config
    found = getattr(config, "scale_factor_temporal", None) or getattr(config, "temporal_compression_ratio", None)
    return int(found or 4)


def _scale(autoencoder: Any, latents: Tensor) -> tuple[Any, Any]:
    """Return what is subtracted from latents, and what they are then multiplied with."""
    config = autoencoder.config
    mean, std = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is not None and std is not None:
        shape = (1, -1) + (1,) * (latents.dim() - 2)
        return latents.new_tensor(mean).view(shape), 1 / latents.new_tensor(std).view(shape)
    return getattr(config, "shift_factor", None) or 0.0, config.scaling_factor
