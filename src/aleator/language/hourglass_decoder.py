"""An hourglass that reads a text id by id.

Of the open segment only the sum of its hidden states and their number are kept. When a boundary closes it, its mean is
one new token for the layers in the middle, so these run αL times for L bytes. All stacks keep keys and values.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from aleator.language.bytes_vocabulary import ends_character
from aleator.language.hourglass import Cache, Stack
from aleator.nn import BoundaryPredictor
from aleator.nn.segments import EPS, most_segments

_LONGEST_CHARACTER = 4  # bytes


@runtime_checkable
class Hourglass(Protocol):
    """What is needed of the model."""

    null: nn.Parameter
    u: nn.Parameter
    v: nn.Parameter
    short: Stack
    down_norm: nn.LayerNorm
    utf8_safe: bool
    capacity: float | None

    def read(self, ids: Tensor, cache: Any = None) -> Tensor:
        """Return the hidden states before the shortening."""

    def write(self, hidden: Tensor, cache: Any = None) -> Tensor:
        """Return the logits of the hidden states after the shortening."""


class HourglassDecoder:
    """A text read id by id by a model in evaluation mode.

    The logits equal the logits of the whole text at once, for the same noise.

    Args:
        model: the hourglass.
        predictor: of the text's script.
        generator: what the boundaries' noise is drawn from.
        noise: uniform numbers to use instead, one for each id.

    Attributes:
        segments: how many were closed so far.
    """

    @torch.no_grad()
    def __init__(
        self,
        model: Hourglass,
        predictor: BoundaryPredictor,
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, " length"] | None = None,
    ) -> None:
        self.model, self.predictor = model, predictor
        self.generator, self.noise = generator, noise
        self.segments = 0
        self._pre: Cache = []
        self._short: Cache = []
        self._post: Cache = []
        self._ids: list[int] = []
        self._sum = torch.zeros_like(model.null).view(1, 1, -1)  # of the open segment
        self._size = 0
        self._last = self._shorten(model.null.view(1, 1, -1))

    @torch.no_grad()
    def step(self, number: int) -> Float[Tensor, " vocab"]:
        """Read one more id and return the logits of the next."""
        ids = torch.tensor([[number]], device=self.model.null.device)
        noise = None if self.noise is None else self.noise[len(self._ids)].view(1, 1)
        self._ids.append(number)
        hidden = self.model.read(ids, self._pre)
        allowed = None
        if self.model.utf8_safe:
            recent = torch.tensor([self._ids[-_LONGEST_CHARACTER:]], device=ids.device)
            allowed = ends_character(recent)[:, -1:]
        self._sum = self._sum + hidden
        self._size += 1
        found = self.predictor(hidden, noise=noise, generator=self.generator, allowed=allowed)
        capacity = 1.0 if self.model.capacity is None else self.model.capacity
        if bool(found.boundaries > 0.5) and self.segments < most_segments(capacity, len(self._ids)):
            self._last = self._shorten(self._sum / (self._size + EPS))
            self.segments += 1
            self._sum, self._size = torch.zeros_like(self._sum), 0
        return self.model.write(hidden + self._last, self._post)[0, 0]

    def _shorten(self, segment: Tensor) -> Tensor:
        return self.model.short(self.model.down_norm(segment), self.model.u, self.model.v, self._short)  # type: ignore[no-any-return]
