"""Transformer layers with relative attention, of which an hourglass is made.

    x ← LN(x + attention(x)),  x ← LN(x + FFN(x))
    score_ij = [(q_i + u)·k_j + (q_i + v)·r_{i−j}] / √d_head  for j ≤ i,    r = W_r sinusoid(distance)

with u and v shared by all layers. Positions enter by their distance alone, so the same layers serve the whole sequence
and the shortened one. Given a cache, a stack reads only what is new.

Z. Dai et al., "Transformer-XL", ACL 2019, arXiv 1901.02860; wiring and initialisation as in the code of "MAGNET",
arXiv 2407.08818.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

# For each layer the keys and values so far, each of shape (batch, heads, tokens, d_head).
Cache = list[tuple[Tensor, Tensor]]


def sinusoid(length: int, channels: int, like: Tensor) -> Float[Tensor, "length channels"]:
    """Return [sin | cos] of the distances length − 1, …, 0, with wavelengths from 2π to 10000·2π."""
    exact = torch.promote_types(like.dtype, torch.float32)
    distance = torch.arange(length - 1, -1, -1, dtype=exact, device=like.device)
    frequency = 10000.0 ** -(torch.arange(0, channels, 2, dtype=exact, device=like.device) / channels)
    angle = distance.unsqueeze(1) * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).to(like.dtype)


def relative_shift(scores: Float[Tensor, "batch heads new total"]) -> Float[Tensor, "batch heads new total"]:
    """Turn scores of (query, distance total − 1 … 0) into scores of (query, key); later keys have undefined scores."""
    batch, heads, new, total = scores.shape
    padded = nn.functional.pad(scores, (1, 0)).view(batch, heads, total + 1, new)
    return padded[:, :, 1:].reshape(batch, heads, new, total)


class RelativeAttention(nn.Module):
    """Causal attention in which positions are relative."""

    def __init__(self, d_model: int, n_heads: int, d_head: int, dropout: float) -> None:
        super().__init__()
        self.n_heads, self.d_head, self.dropout = n_heads, d_head, dropout
        self.qkv = nn.Linear(d_model, 3 * n_heads * d_head)
        self.position = nn.Linear(d_model, n_heads * d_head)
        self.output = nn.Linear(n_heads * d_head, d_model)

    def forward(
        self,
        x: Float[Tensor, "batch new d_model"],
        u: Float[Tensor, "heads d_head"],
        v: Float[Tensor, "heads d_head"],
        distances: Float[Tensor, "total d_model"],
        before: tuple[Tensor, Tensor] | None,
    ) -> tuple[Float[Tensor, "batch new d_model"], tuple[Tensor, Tensor]]:
        """Return the output for the new tokens, and keys and values of all."""
        batch, new, _ = x.shape
        q, k, values = self.qkv(x).view(batch, new, 3, self.n_heads, self.d_head).permute(2, 0, 3, 1, 4)
        if before is not None:
            k, values = torch.cat([before[0], k], dim=2), torch.cat([before[1], values], dim=2)
        total = k.shape[2]
        r = self.position(distances).view(total, self.n_heads, self.d_head).permute(1, 2, 0)
        by_distance = relative_shift((q + v.unsqueeze(1)) @ r) / math.sqrt(self.d_head)
        later = torch.ones(new, total, dtype=torch.bool, device=x.device).triu(total - new + 1)
        bias = by_distance.masked_fill(later, -math.inf)
        dropout = self.dropout if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(q + u.unsqueeze(1), k, values, bias, dropout)
        mixed = mixed.transpose(1, 2).reshape(batch, new, -1)
        return self.output(mixed), (k, values)


class TransformerLayer(nn.Module):
    """Attention and a two-layer network, each followed by a sum and a LayerNorm."""

    def __init__(self, d_model: int, n_heads: int, d_head: int, d_inner: int, dropout: float) -> None:
        super().__init__()
        self.attention = RelativeAttention(d_model, n_heads, d_head, dropout)
        self.attention_norm = nn.LayerNorm(d_model)
        self.drop = nn.Dropout(dropout)
        self.feed_forward = nn.Sequential(
            nn.Linear(d_model, d_inner),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(d_inner, d_model),
            nn.Dropout(dropout),
        )
        self.feed_forward_norm = nn.LayerNorm(d_model)

    def forward(
        self, x: Tensor, u: Tensor, v: Tensor, distances: Tensor, before: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the output for the new tokens, and keys and values of all."""
        attended, cached = self.attention(x, u, v, distances, before)
        x = self.attention_norm(x + self.drop(attended))
        return self.feed_forward_norm(x + self.feed_forward(x)), cached


class Stack(nn.Module):
    """Layers one after the other.

    Args:
        n_layers: how many; none is the identity.
        d_model: channels, an even number.
        n_heads: attention heads.
        d_head: channels of a head.
        d_inner: width of the feed-forward networks.
        dropout: probability, of activations and of attention weights.
    """

    def __init__(self, n_layers: int, d_model: int, n_heads: int, d_head: int, d_inner: int, dropout: float) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            TransformerLayer(d_model, n_heads, d_head, d_inner, dropout) for _ in range(n_layers)
        )

    def forward(
        self,
        x: Float[Tensor, "batch new d_model"],
        u: Float[Tensor, "heads d_head"],
        v: Float[Tensor, "heads d_head"],
        cache: Cache | None = None,
    ) -> Float[Tensor, "batch new d_model"]:
        """Return the output for tokens that follow the cached ones; the cache then includes them.

        Args:
            x: the new tokens.
            u: shared bias of the content scores.
            v: shared bias of the distance scores.
            cache: an empty list at first, filled and changed here; None where nothing will follow.
        """
        seen = cache[0][0].shape[2] if cache else 0
        distances = sinusoid(seen + x.shape[1], x.shape[2], x)
        kept: Cache = []
        for index, layer in enumerate(self.layers):
            x, keys_and_values = layer(x, u, v, distances, cache[index] if cache else None)
            if cache is not None:
                kept.append(keys_and_values)
        if cache is not None:
            cache[:] = kept
        return x


def initialise(module: nn.Module) -> None:
    """Draw N(0, 0.02) for linear layers and embeddings and N(1, 0.02) for LayerNorm weights; biases are 0."""
    for part in module.modules():
        if isinstance(part, (nn.Linear, nn.Embedding)):
            nn.init.normal_(part.weight, std=0.02)
        elif isinstance(part, nn.LayerNorm):
            nn.init.normal_(part.weight, mean=1.0, std=0.02)
        if isinstance(part, (nn.Linear, nn.LayerNorm)):
            nn.init.zeros_(part.bias)
