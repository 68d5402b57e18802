"""The model of a run of the recipe ``language``, as a model of `aleator.language` that can be asked what a text costs.

A model with learned segments is one already. One that reads bytes or tokens gets `ReaderLM` around it.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Int64
from torch import Tensor, nn

from aleator.language import LanguageModel, Measure
from aleator.language.bytes_vocabulary import FIRST_BYTE
from aleator.language.language_model import check_batch
from aleator.recipes.language.readers import Bytes, Tokens


class ReaderLM(LanguageModel, saved=False):
    """A network and how it reads windows.

    Args:
        reader: of bytes or tokens.
        network: its model, trained.
    """

    def __init__(self, reader: Bytes | Tokens, network: nn.Module) -> None:
        super().__init__()
        self.reader, self.network = reader, network

    @torch.no_grad()
    def measure(
        self,
        ids: Int64[Tensor, "rows length"],
        scripts: Any = None,
        mask: Bool[Tensor, "rows length"] | None = None,
        generator: torch.Generator | None = None,
    ) -> Measure:
        """Return bytes or tokens, and code length, of every row; scripts and generator make no difference."""
        check_batch(ids, mask)
        lengths = ids.new_full((len(ids),), ids.shape[1]) if mask is None else mask.sum(1)
        segments = torch.zeros(len(ids), dtype=torch.float64, device=ids.device)
        nats = segments.clone()
        # Tokens are made of whole rows, so rows of one length are read together and none is padded.
        for length in set(lengths.tolist()):
            rows = (lengths == length).nonzero()[:, 0]
            windows = ids[rows, :length] - FIRST_BYTE
            counts = [self.reader.count(window) for window in windows.to("cpu", torch.uint8)]
            segments[rows] = torch.tensor(counts, dtype=torch.float64, device=ids.device)
            if length > 1:
                reading = self.reader.read(self.network, windows, torch.zeros_like(rows), None)
                nats[rows] = reading.nats.double().sum(1)
        return Measure(segments, nats, (lengths - 1).clamp(min=0).double())
