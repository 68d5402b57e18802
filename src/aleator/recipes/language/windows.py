"""The windows of each domain that a step of the recipe ``language`` sees.

A window is a start inside the training bytes of a domain: a domain of n bytes has n − context windows, each of which
predicts context bytes, and they overlap. They are the examples of a `MixtureSampler`: every start is taken once before
one of them returns. Sizes of domains are bytes and not windows, and what is reported as epochs is

    draws · context / n        how often a domain's bytes were predicted, on average

so that one shuffled epoch of starts is about ``context`` epochs of bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from aleator.data import DomainMixture, MixtureSampler


class Windows(NamedTuple):
    """A process's share of a step's windows.

    Attributes:
        bytes: one more than the context.
        domains: the index of each window's domain.
        step: the step, from 0.
    """

    bytes: Int64[Tensor, "batch length"]
    domains: Int64[Tensor, " batch"]
    step: int


class TrainingWindows:
    """The windows of every step, and how much of each domain was seen.

    Args:
        texts: the training bytes of each domain, more than ``context`` of each, in the order of the mixture.
        mixture: in what proportion they are drawn.
        context: bytes that a window predicts.
        batch_size: windows of a global batch.
        generator: one number is drawn from it now, the key of all that follows.
        device: where the bytes are kept.
        num_replicas: processes that share a batch.
        rank: which of them this is; it gets every ``num_replicas``-th window.

    Raises:
        ValueError: if the batch size is not a positive multiple of the processes.
    """

    def __init__(
        self,
        texts: Mapping[str, UInt8[Tensor, " bytes"]],
        mixture: DomainMixture,
        context: int,
        batch_size: int,
        *,
        generator: torch.Generator,
        device: torch.device | str = "cpu",
        num_replicas: int = 1,
        rank: int = 0,
    ) -> None:
        self.context = context
        self.bytes = torch.cat(list(texts.values())).to(device)
        self.sampler = MixtureSampler(
            {name: len(text) - context for name, text in texts.items()},
            mixture,
            batch_size,
            generator=generator,
            num_replicas=num_replicas,
            rank=rank,
        )
        self._lengths = {name: len(text) for name, text in texts.items()}
        self._inside = torch.arange(context + 1, device=device)

    def __iter__(self) -> Iterator[Windows]:
        """Yield this process's windows from the next step to the last."""
        batches = iter(self.sampler.batches())
        while True:
            step = self.sampler.step
            if (starts := next(batches, None)) is None:
                return
            domains = self.sampler.domain_ids(starts)
            # Starts are counted through all domains, and every domain has ``context`` bytes more than starts.
            positions = (starts + self.context * domains).to(self.bytes.device)
            yield Windows(self.bytes[positions[:, None] + self._inside].long(), domains.to(self.bytes.device), step)

    @property
    def epochs(self) -> dict[str, float]:
        """How often the bytes of each domain were predicted, on average."""
        return {name: count * self.context / self._lengths[name] for name, count in self.sampler.draws.items()}

    @property
    def step(self) -> int:
        """The step that is drawn next."""
        return self.sampler.step

    def state_dict(self) -> dict[str, Any]:
        """Return the key, the next step and the draws of each domain."""
        return self.sampler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called, with any number of processes."""
        self.sampler.load_state_dict(state)
