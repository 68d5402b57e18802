"""Around the video models of diffusers: a photograph and an identity for a CogVideoX transformer.

The transformer is ``CogVideoXTransformer3DModel`` as it is, with twice the channels at its input: the noisy latents and
those of the photograph, joined channel by channel. A checkpoint that knows only the first half becomes one that knows
both by weights of zero for the second, so that it computes what it did. Its text tokens are those of
`aleator.video.IdentityTextFusion`.

    transformer = CogVideoXTransformer3DModel.from_pretrained("THUDM/CogVideoX-5b", subfolder="transformer")
    model = IdentityVideoModel(IdentityTextFusion(), with_photo_channels(transformer))

J. Wei et al., "EchoVideo", arXiv 2501.13452; Z. Yang et al., CogVideoX, arXiv 2408.06072.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from aleator.video.adapters import rotary_places
from aleator.video.autoencoder import decode, encode
from aleator.video.cogvideo_shapes import latent_shape, shallow_latents
from aleator.video.extra import needed
from aleator.video.identity_fusion import IdentityTextFusion

_FUSION, _SIZES, _TRANSFORMER = "fusion.safetensors", "fusion.json", "transformer"


def with_photo_channels(transformer: Any) -> Any:
    """Return the transformer with as many further input channels, whose weights are zero; it is changed in place.

    Args:
        transformer: a ``CogVideoXTransformer3DModel`` whose input has the channels of its output.

    Raises:
        ValueError: if the input has other channels, or patches reach over frames, as in CogVideoX 1.5.
    """
    config = transformer.config
    if config.patch_size_t is not None:
        raise ValueError(f"patch_size_t must be None, as in CogVideoX 1.0, got {config.patch_size_t}")
    if config.in_channels != config.out_channels:
        raise ValueError(f"in_channels must be out_channels, {config.out_channels}, got {config.in_channels}")
    old: nn.Conv2d = transformer.patch_embed.proj
    weight = torch.cat([old.weight.data, torch.zeros_like(old.weight.data)], 1)
    old.weight = nn.Parameter(weight, requires_grad=old.weight.requires_grad)
    old.in_channels *= 2
    transformer.register_to_config(in_channels=2 * config.in_channels)
    return transformer


class IdentityVideoModel(nn.Module):
    """The fusion and a transformer with channels for a photograph.

    Args:
        fusion: of identity, vision tokens and text.
        transformer: a ``CogVideoXTransformer3DModel``, see `with_photo_channels`.

    Raises:
        ValueError: if the transformer has no channels for a photograph, or expects another text.
    """

    def __init__(self, fusion: IdentityTextFusion, transformer: Any) -> None:
        super().__init__()
        config = transformer.config
        if config.in_channels != 2 * config.out_channels:
            raise ValueError(f"in_channels must be twice out_channels, {config.out_channels}, got {config.in_channels}")
        for theirs, ours in (("max_text_seq_length", "text_tokens"), ("text_embed_dim", "text_dim")):
            if getattr(config, theirs) != fusion.sizes[ours]:
                expected = getattr(config, theirs)
                raise ValueError(f"{ours} of the fusion must be {expected}, got {fusion.sizes[ours]}")
        self.fusion, self.transformer = fusion, transformer

    def forward(
        self,
        x: Float[Tensor, "batch frame channel height width"],
        t: Int[Tensor, " batch"],
        condition: Mapping[str, Tensor],
    ) -> Float[Tensor, "batch frame channel height width"]:
        """Return the predicted velocities.

        Args:
            x: noisy latents.
            t: timesteps.
            condition: ``text``, ``vision``, ``identity``, and ``shallow`` of the shape of x.
        """
        tokens = self.fusion(condition["identity"], condition["vision"], condition["text"])
        rotary = None
        if self.transformer.config.use_rotary_positional_embeddings:
            height, width = x.shape[-2:]
            rotary = rotary_places(self.transformer.config, x.shape[1], height, width, x.device)
        given = torch.cat([x, condition["shallow"].to(x)], 2)
        out = self.transformer(
            hidden_states=given, encoder_hidden_states=tokens.to(x), timestep=t, image_rotary_emb=rotary,
            return_dict=False,
        )  # fmt: skip
        return out[0]  # type: ignore[no-any-return]

    def groups(self, lr: float, *, fusion_ratio: float = 10.0) -> list[dict[str, Any]]:
        """Return groups of parameters for an optimizer: the fusion, which is new, at a higher rate.

        Args:
            lr: of the transformer.
            fusion_ratio: of the fusion's rate to it.
        """
        parts: tuple[tuple[Iterable[nn.Parameter], float], ...] = (
            (self.transformer.parameters(), lr),
            (self.fusion.parameters(), fusion_ratio * lr),
        )
        return [{"params": [p for p in part if p.requires_grad], "lr": rate} for part, rate in parts]

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the transformer as diffusers does, into a folder of its own, and the fusion beside it."""
        folder = Path(folder)
        self.transformer.save_pretrained(folder / _TRANSFORMER)
        weights = {name: value.detach().cpu().contiguous() for name, value in self.fusion.state_dict().items()}
        save_file(weights, folder / _FUSION)
        (folder / _SIZES).write_text(json.dumps(self.fusion.sizes, indent=2), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> IdentityVideoModel:
        """Read what `save_pretrained` wrote.

        Args:
            folder: where it was written.
            options: for ``CogVideoXTransformer3DModel.from_pretrained``, such as ``torch_dtype``.

        Raises:
            FileNotFoundError: if there is no fusion in the folder.
            ModuleNotFoundError: if diffusers is not installed.
        """
        folder = Path(folder)
        with torch.device("meta"):
            fusion = IdentityTextFusion(**json.loads((folder / _SIZES).read_text(encoding="utf-8")))
        fusion.load_state_dict(load_file(folder / _FUSION), assign=True)
        fusion.requires_grad_(True)
        kind = needed("diffusers", "video models").CogVideoXTransformer3DModel
        transformer = kind.from_pretrained(folder / _TRANSFORMER, **options)
        return cls(fusion.to(transformer.dtype), transformer)


def encode_clips(
    vae: Any, clips: Float[Tensor, "batch frame 3 height width"], *, generator: torch.Generator | None = None
) -> Float[Tensor, "batch latent_frame channel h w"]:
    """Return scaled latents of clips, in the order of dimensions of the transformer.

    Args:
        vae: an ``AutoencoderKLCogVideoX``.
        clips: colours in [−1, 1]; frames are 1 more than a multiple of 8 and at most 49, sides multiples of 16.
        generator: draws from the posterior; None takes its mode.

    Raises:
        ValueError: if there are other frames, or another size.
    """
    latent_shape(clips.shape[1], *clips.shape[-2:])
    return encode(vae, clips.transpose(1, 2), generator=generator).transpose(1, 2)


def decode_clips(
    vae: Any, latents: Float[Tensor, "batch latent_frame channel h w"]
) -> Float[Tensor, "batch frame 3 height width"]:
    """Return the clips of scaled latents, colours in about [−1, 1].

    Raises:
        ValueError: if there is an even number of latent frames, which the autoencoder makes too many frames of.
    """
    if latents.shape[1] % 2 == 0:
        raise ValueError(f"latent frames must be odd, so that all frames come back, got {latents.shape[1]}")
    return decode(vae, latents.transpose(1, 2)).transpose(1, 2)


def encode_photos(
    vae: Any,
    photos: Float[Tensor, "batch 3 side side"],
    frames: int,
    height: int,
    width: int,
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch latent_frame channel h w"]:
    """Return the shallow condition: latents of photographs on black in the first frame, and zeros after it.

    Args:
        vae: an ``AutoencoderKLCogVideoX``.
        photos: square, with what is no face in black (−1); colours in [−1, 1].
        frames: of the video.
        height: of the video in pixels.
        width: of the video in pixels.
        generator: draws from the posterior; None takes its mode.

    Raises:
        ValueError: if the video has other frames, or another size.
    """
    latent_frames = latent_shape(frames, height, width)[0]
    side = photos.shape[-1]
    high, wide = (max(side, round(side * size / other)) for size, other in ((height, width), (width, height)))
    padded = photos.new_full((len(photos), 3, high, wide), -1.0)
    top, left = (high - side) // 2, (wide - side) // 2
    padded[:, :, top : top + side, left : left + side] = photos
    resized = nn.functional.interpolate(padded, (height, width), mode="bilinear", antialias=True)
    return shallow_latents(encode_clips(vae, resized.unsqueeze(1), generator=generator), latent_frames)
