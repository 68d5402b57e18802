"""A language model on bytes whose layers all see every byte: the baseline of the models that shorten.

embedding → dropout → depth layers → linear
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from aleator.language.hourglass import Cache, Stack, initialise
from aleator.language.language_model import Decoder, LanguageModel, Measure, check_batch, check_sizes, next_byte_nats


class ByteLM(LanguageModel):
    """The byte-level transformer.

    Args:
        vocab: number of ids, at least 259.
        depth: number of layers.
        d_model: channels.
        n_heads: attention heads.
        d_head: channels of a head.
        d_inner: width of the feed-forward networks.
        dropout: probability.

    Raises:
        ValueError: if ``vocab`` has no room for the bytes, or ``d_model`` is odd.
    """

    def __init__(
        self,
        vocab: int = 262,
        *,
        depth: int = 16,
        d_model: int = 768,
        n_heads: int = 12,
        d_head: int = 64,
        d_inner: int = 3072,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_sizes(vocab, d_model)
        layer = {"d_model": d_model, "n_heads": n_heads, "d_head": d_head, "d_inner": d_inner}
        self.config = {"vocab": vocab, "depth": depth, **layer, "dropout": dropout}
        self.embedding = nn.Embedding(vocab, d_model)
        self.drop = nn.Dropout(dropout)
        self.stack = Stack(depth, **layer, dropout=dropout)
        self.u = nn.Parameter(torch.empty(n_heads, d_head))
        self.v = nn.Parameter(torch.empty(n_heads, d_head))
        self.output = nn.Linear(d_model, vocab)
        initialise(self)
        for bias in (self.u, self.v):
            nn.init.normal_(bias, std=0.02)

    def forward(self, ids: Int64[Tensor, "rows length"], cache: Cache | None = None) -> Float[Tensor, "rows length v"]:
        """Return the logits of the next id at every position."""
        return self.output(self.stack(self.drop(self.embedding(ids)), self.u, self.v, cache))  # type: ignore[no-any-return]

    def loss(
        self, ids: Int64[Tensor, "rows length"], mask: Bool[Tensor, "rows length"] | None = None
    ) -> Float[Tensor, ""]:
        """Return the mean over all predicted ids, in nats.

        Raises:
            ValueError: if the batch is empty or the mask has another shape.
            TypeError: if ids or mask have another type.
        """
        check_batch(ids, mask)
        nats, predicted = next_byte_nats(self(ids), ids, mask)
        return nats.sum() / predicted.sum().clamp(min=1)

    def measure(
        self,
        ids: Int64[Tensor, "rows length"],
        scripts: Any = None,
        mask: Bool[Tensor, "rows length"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Measure:
        """Return bytes and code length of every row; scripts and generator make no difference."""
        check_batch(ids, mask)
        nats, predicted = next_byte_nats(self(ids), ids, mask)
        counted = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
        return Measure(counted.sum(1).to(nats.dtype), nats, predicted)

    def decoder(self, script: str = "", *, generator: torch.Generator | None = None) -> Decoder:
        """Return what reads a text id by id; script and generator make no difference."""
        return ByteDecoder(self)


class ByteDecoder:
    """A text read id by id, with the keys and values of what was read."""

    def __init__(self, model: ByteLM) -> None:
        self.model = model
        self._cache: Cache = []

    @torch.no_grad()
    def step(self, number: int) -> Float[Tensor, " vocab"]:
        """Read one more id and return the logits of the next."""
        ids = torch.tensor([[number]], device=self.model.u.device)
        return self.model(ids, self._cache)[0, 0]  # type: ignore[no-any-return]
