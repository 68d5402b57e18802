"""What is said and what is seen, as tokens: a T5 encoder for texts and a SigLIP encoder for faces, of transformers.

A text has all its tokens, padding included and none masked, because the fusion mixes by position. A face is resized to
the encoder's size; its tokens are those of the patches.

    texts, faces = TextEncoder.from_pretrained(folder), VisionEncoder.from_pretrained("google/siglip-base-patch16-224")
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn import functional as F

from aleator.video.extra import needed


class TextEncoder:
    """A frozen T5 encoder and its tokenizer.

    Args:
        model: a ``T5EncoderModel``.
        tokenizer: of it.
        tokens: of a text, padding included.
    """

    def __init__(self, model: Any, tokenizer: Any, *, tokens: int = 226) -> None:
        self.model, self.tokenizer, self.tokens = model.requires_grad_(False).eval(), tokenizer, tokens

    @classmethod
    def from_pretrained(cls, name: str | Path, *, tokens: int = 226, **options: Any) -> TextEncoder:
        """Read an encoder and its tokenizer from a folder or a hub.

        Args:
            name: of the model.
            tokens: of a text.
            options: for both, such as ``subfolder`` or ``revision``.

        Raises:
            ModuleNotFoundError: if transformers is not installed.
        """
        transformers = needed("transformers", "text encoders")
        model = transformers.T5EncoderModel.from_pretrained(name, **options)
        return cls(model, transformers.AutoTokenizer.from_pretrained(name, **options), tokens=tokens)

    @torch.no_grad()
    def __call__(self, texts: Sequence[str]) -> Float[Tensor, "text tokens width"]:
        """Return the tokens of texts; longer ones are cut."""
        ids = self.tokenizer(
            list(texts), padding="max_length", max_length=self.tokens, truncation=True, return_tensors="pt"
        ).input_ids
        return self.model(ids.to(self.model.device)).last_hidden_state  # type: ignore[no-any-return]


class VisionEncoder:
    """A frozen SigLIP vision encoder.

    Args:
        model: a ``SiglipVisionModel``.
    """

    def __init__(self, model: Any) -> None:
        self.model = model.requires_grad_(False).eval()

    @classmethod
    def from_pretrained(cls, name: str | Path, **options: Any) -> VisionEncoder:
        """Read an encoder from a folder or a hub; options as ``SiglipVisionModel.from_pretrained`` has them.

        Raises:
            ModuleNotFoundError: if transformers is not installed.
        """
        return cls(needed("transformers", "vision encoders").SiglipVisionModel.from_pretrained(name, **options))

    @torch.no_grad()
    def __call__(self, faces: UInt8[Tensor, "face height width 3"]) -> Float[Tensor, "face patches dim"]:
        """Return the tokens of faces, with values from 0 to 255 made −1 to 1."""
        side = self.model.config.image_size
        pixels = faces.permute(0, 3, 1, 2).to(self.model.device, torch.float32)
        if pixels.shape[-2:] != (side, side):
            pixels = F.interpolate(pixels, (side, side), mode="bicubic", antialias=True).clamp(0, 255)
        return self.model((pixels / 127.5 - 1).to(self.model.dtype)).last_hidden_state  # type: ignore[no-any-return]
