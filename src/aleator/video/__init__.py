"""Video: transformers of ``diffusers`` as flows, and their alignment with rewards."""

from typing import TYPE_CHECKING

from aleator.later import later

if TYPE_CHECKING:
    from aleator.video.adapters import (
        CogVideoXVelocity,
        FluxVelocity,
        HunyuanVideoVelocity,
        TimestepVelocity,
        TransformerVelocity,
        check_dropout,
        velocity_of,
    )
    from aleator.video.autoencoder import check_frames, decode, encode
    from aleator.video.lora import Reference, add_lora, save_lora, save_transformer
    from aleator.video.policy_average import PolicyAverage
    from aleator.video.precision import cast
    from aleator.video.text_cache import TextCache, cache_text

_MODELS = {
    "CogVideoXVelocity": "adapters",
    "FluxVelocity": "adapters",
    "HunyuanVideoVelocity": "adapters",
    "PolicyAverage": "policy_average",
    "Reference": "lora",
    "TextCache": "text_cache",
    "TimestepVelocity": "adapters",
    "TransformerVelocity": "adapters",
    "add_lora": "lora",
    "cache_text": "text_cache",
    "cast": "precision",
    "check_dropout": "adapters",
    "check_frames": "autoencoder",
    "decode": "autoencoder",
    "encode": "autoencoder",
    "save_lora": "lora",
    "save_transformer": "lora",
    "velocity_of": "adapters",
}

__all__ = [
    "CogVideoXVelocity",
    "FluxVelocity",
    "HunyuanVideoVelocity",
    "PolicyAverage",
    "Reference",
    "TextCache",
    "TimestepVelocity",
    "TransformerVelocity",
    "add_lora",
    "cache_text",
    "cast",
    "check_dropout",
    "check_frames",
    "decode",
    "encode",
    "save_lora",
    "save_transformer",
    "velocity_of",
]

__getattr__ = later(__name__, _MODELS)
