"""Who somebody is, joined to what is said about a video before the diffusion transformer sees either.

An identity vector and the tokens of a vision model are mixed with the tokens of the text; the transformer is given the
mixture in the place of the text, of the same length, so that attention costs what it did:

    identity (d) → n copies → resampler → 16 tokens
    [identity 16, vision 196] → linear over tokens → 196 → linear to the text's width → face 196
    [face 196, text 226] → linear over tokens → 226.

The mixing is over positions: the text always has all its tokens, padding included, and the order of what is joined is
part of the weights. n identical tokens are, in a softmax, one token with logit + ln n; that is how they are computed.

J. Wei et al., "EchoVideo: Identity-Preserving Human Video Generation by Multimodal Feature Fusion", arXiv 2501.13452,
and the authors' inference code. The resampler is a perceiver: A. Jaegle et al., arXiv 2103.03206.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn


class PerceiverAttention(nn.Module):
    """Attention of latents to inputs and to themselves, with the softmax in float32 at least.

    Args:
        width: of inputs and latents.
        heads: of the attention.
        dim_head: width of a head.
    """

    def __init__(self, width: int, heads: int, dim_head: int) -> None:
        super().__init__()
        self.heads, self.dim_head = heads, dim_head
        inner = heads * dim_head
        self.norm_inputs = nn.LayerNorm(width)
        self.norm_latents = nn.LayerNorm(width)
        self.to_q = nn.Linear(width, inner, bias=False)
        self.to_kv = nn.Linear(width, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, width, bias=False)

    def forward(
        self, inputs: Float[Tensor, "batch n width"], latents: Float[Tensor, "batch m width"], copies: int = 1
    ) -> Float[Tensor, "batch m width"]:
        """Return what the latents read.

        Args:
            inputs: that are read beside the latents.
            latents: that read.
            copies: each input counts so many times.
        """
        inputs, latents = self.norm_inputs(inputs), self.norm_latents(latents)
        q = self._heads(self.to_q(latents))
        k, v = (self._heads(part) for part in self.to_kv(torch.cat([inputs, latents], 1)).chunk(2, -1))
        scale = self.dim_head**-0.25
        logits = (q * scale) @ (k * scale).transpose(-1, -2)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        n = inputs.shape[1]
        logits = torch.cat([logits[..., :n] + math.log(copies), logits[..., n:]], -1)
        read = logits.softmax(-1).to(v.dtype) @ v
        return self.to_out(read.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]

    def _heads(self, tokens: Tensor) -> Tensor:
        return tokens.view(*tokens.shape[:2], self.heads, self.dim_head).transpose(1, 2)


class ResamplerBlock(nn.Module):
    """Perceiver attention and a feed-forward layer, each with its residual."""

    def __init__(self, width: int, heads: int, dim_head: int, ff_mult: int) -> None:
        super().__init__()
        self.attention = PerceiverAttention(width, heads, dim_head)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, ff_mult * width, bias=False),
            nn.GELU(),
            nn.Linear(ff_mult * width, width, bias=False),
        )

    def forward(
        self, inputs: Float[Tensor, "batch n width"], latents: Float[Tensor, "batch m width"], copies: int
    ) -> Float[Tensor, "batch m width"]:
        """Return the latents after one block."""
        latents = latents + self.attention(inputs, latents, copies)
        return latents + self.feed_forward(latents)  # type: ignore[no-any-return]


class Resampler(nn.Module):
    """Learned latents that read the copies of a vector, block after block."""

    def __init__(
        self,
        id_dim: int,
        out_dim: int,
        *,
        width: int,
        num_latents: int,
        depth: int,
        heads: int,
        dim_head: int,
        ff_mult: int,
        copies: int,
    ) -> None:
        super().__init__()
        self.copies = copies
        self.latents = nn.Parameter(torch.randn(1, num_latents, width) / width**0.5)
        self.proj_in = nn.Linear(id_dim, width)
        self.blocks = nn.ModuleList(ResamplerBlock(width, heads, dim_head, ff_mult) for _ in range(depth))
        self.proj_out = nn.Linear(width, out_dim)
        self.norm_out = nn.LayerNorm(out_dim)

    def forward(self, identity: Float[Tensor, "batch id_dim"]) -> Float[Tensor, "batch latents out_dim"]:
        """Return the tokens of identity vectors."""
        inputs = self.proj_in(identity.unsqueeze(1))
        latents = self.latents.expand(len(identity), -1, -1)
        for block in self.blocks:
            latents = block(inputs, latents, self.copies)
        return self.norm_out(self.proj_out(latents))  # type: ignore[no-any-return]


class IdentityTextFusion(nn.Module):
    """Tokens of a face and of a text, mixed to as many tokens as the text had; the defaults are those of EchoVideo.

    Weights are drawn from torch's global generator, as everywhere in torch. Under ``torch.device("meta")`` none are.

    Args:
        id_dim: width of an identity vector, which is not normalised.
        vision_dim: width of a vision token.
        text_dim: width of a text token.
        vision_tokens: of an image.
        text_tokens: of a text, padding included.
        num_latents: tokens that the resampler makes of an identity vector.
        depth: blocks of the resampler.
        heads: of its attention.
        dim_head: width of a head.
        id_copies: copies of the identity vector that the resampler reads, as one token that counts so many times.
        width: of the resampler.
        ff_mult: width of its feed-forward layers, in widths.

    Raises:
        ValueError: if a size is not positive.

    Example:
        >>> with torch.device("meta"):
        ...     fusion = IdentityTextFusion()
        >>> sum(p.numel() for p in fusion.resampler.parameters())
        47492352
    """

    def __init__(
        self,
        id_dim: int = 512,
        vision_dim: int = 768,
        text_dim: int = 4096,
        vision_tokens: int = 196,
        text_tokens: int = 226,
        num_latents: int = 16,
        depth: int = 4,
        heads: int = 12,
        dim_head: int = 64,
        id_copies: int = 144,
        width: int = 1024,
        ff_mult: int = 4,
    ) -> None:
        super().__init__()
        sizes = {name: size for name, size in locals().items() if isinstance(size, int)}
        for name, size in sizes.items():
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        self.sizes = sizes
        self.resampler = Resampler(
            id_dim, vision_dim, width=width, num_latents=num_latents, depth=depth, heads=heads, dim_head=dim_head,
            ff_mult=ff_mult, copies=id_copies,
        )  # fmt: skip
        self.vision_mixer = nn.Linear(num_latents + vision_tokens, vision_tokens)
        self.to_text = nn.Linear(vision_dim, text_dim)
        self.text_mixer = nn.Linear(vision_tokens + text_tokens, text_tokens)

    def forward(
        self,
        identity: Float[Tensor, "batch id_dim"],
        vision: Float[Tensor, "batch vision_tokens vision_dim"],
        text: Float[Tensor, "batch text_tokens text_dim"],
    ) -> Float[Tensor, "batch text_tokens text_dim"]:
        """Return the tokens that take the place of the text's.

        Args:
            identity: vectors of who is shown; they must be finite, which is looked at on a CPU only, where it costs no
                wait for a device.
            vision: tokens of an image of the face.
            text: tokens of what is said about the video.

        Raises:
            ValueError: if a width or a number of tokens is not that of the construction, or a vector is not finite.
        """
        sizes = self.sizes
        for name, got, expected in (
            ("identity", identity.shape[1:], (sizes["id_dim"],)),
            ("vision", vision.shape[1:], (sizes["vision_tokens"], sizes["vision_dim"])),
            ("text", text.shape[1:], (sizes["text_tokens"], sizes["text_dim"])),
        ):
            if tuple(got) != expected:
                raise ValueError(f"{name} must have the shape [batch, {_listed(expected)}], got [.., {_listed(got)}]")
        seen = identity.device.type == "cpu" and not torch.compiler.is_compiling()
        if seen and not bool(identity.isfinite().all()):
            raise ValueError("identity must be finite, got a vector with NaN or an infinity")
        face = self._over_tokens(self.vision_mixer, torch.cat([self.resampler(identity), vision], 1))
        return self._over_tokens(self.text_mixer, torch.cat([self.to_text(face), text], 1))

    @staticmethod
    def _over_tokens(layer: nn.Linear, tokens: Tensor) -> Tensor:
        return layer(tokens.transpose(1, 2)).transpose(1, 2)  # type: ignore[no-any-return]


def _listed(sizes: tuple[int, ...] | torch.Size) -> str:
    return ", ".join(map(str, sizes))
