"""Tiny configurations of the transformers of diffusers, and conditions that fit them."""

from functools import cache
from typing import Any

import diffusers
import torch
from torch import Tensor

SHAPES = {
    "wan": (4, 3, 4, 4), "hunyuan": (4, 2, 4, 4), "sd3": (4, 4, 4), "flux": (4, 4, 4), "cogvideox": (2, 4, 4, 4),
}  # fmt: skip
HEADS = {"num_attention_heads": 2, "attention_head_dim": 8}


def transformer(name: str, **more: Any) -> Any:
    """Return a transformer whose weights are the same every time."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(0)
        return _made(name, more).eval()


def _made(name: str, more: dict[str, Any]) -> Any:
    if name == "wan":
        return diffusers.WanTransformer3DModel(
            **HEADS, in_channels=4, out_channels=4, text_dim=8, freq_dim=8, ffn_dim=16, num_layers=2,
            rope_max_seq_len=16, **more,
        )  # fmt: skip
    if name == "hunyuan":
        return diffusers.HunyuanVideoTransformer3DModel(
            **HEADS, in_channels=4, out_channels=4, num_layers=1, num_single_layers=1, num_refiner_layers=1,
            text_embed_dim=8, pooled_projection_dim=6, rope_axes_dim=(2, 2, 4), **more,
        )  # fmt: skip
    if name == "sd3":
        return diffusers.SD3Transformer2DModel(
            **HEADS, sample_size=4, in_channels=4, out_channels=4, num_layers=1, joint_attention_dim=8,
            caption_projection_dim=16, pooled_projection_dim=6, pos_embed_max_size=4, **more,
        )  # fmt: skip
    if name == "flux":
        return diffusers.FluxTransformer2DModel(
            **HEADS, in_channels=16, num_layers=1, num_single_layers=1, joint_attention_dim=8,
            pooled_projection_dim=6, axes_dims_rope=(2, 2, 4), **more,
        )  # fmt: skip
    return diffusers.CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=8, num_layers=1, sample_width=4, sample_height=4, sample_frames=5, max_text_seq_length=3,
        **{"use_rotary_positional_embeddings": True, **more},
    )  # fmt: skip


@cache
def scheduler() -> Any:
    """Return the scheduler of CogVideoX."""
    return diffusers.CogVideoXDDIMScheduler(prediction_type="v_prediction", rescale_betas_zero_snr=True)


def condition(name: str, batch: int, seed: int = 1) -> dict[str, Tensor]:
    """Return what the transformer is told beside state and time."""
    generator = torch.Generator().manual_seed(seed)
    cond = {"encoder_hidden_states": torch.randn(batch, 3, 8, generator=generator)}
    if name in ("hunyuan", "sd3", "flux"):
        cond["pooled_projections"] = torch.randn(batch, 6, generator=generator)
    if name == "hunyuan":
        cond["encoder_attention_mask"] = torch.ones(batch, 3, dtype=torch.long)
    return cond


def latents(name: str, batch: int, seed: int = 2) -> Tensor:
    """Return a noisy state."""
    return torch.randn(batch, *SHAPES[name], generator=torch.Generator().manual_seed(seed))
