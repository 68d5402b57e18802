"""One optimizer step's worth of a rollout, as pieces that go through the network one after the other.

Each piece has a graph of its own, which is gone before the next one is made. Gradients are synchronised once, at the
last piece.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn


@dataclass
class Update:
    """One optimizer step's worth of a trajectory: pieces to go back through, and what they met."""

    pieces: list[tuple[int, Callable[[], Tensor]]]
    """For each piece, of how many steps of samples it is and a function for its mean loss, as `GradientStep` of
    `aleator.experiment` takes them."""
    met: list[dict[str, Tensor]]
    """What each piece that was evaluated met."""
    rewards: dict[str, Tensor]
    """The figures of the advantages of the whole trajectory."""

    def backward(self, module: nn.Module | None = None) -> Float[Tensor, ""]:
        """Add the gradient of the update's loss to the parameters, piece by piece, and return the loss.

        Args:
            module: what synchronises gradients, wrapped by DDP or FSDP2: it does so once, with the last piece.
        """
        total = sum(count for count, _ in self.pieces)
        losses = []
        for index, (count, loss_of) in enumerate(self.pieces):
            with _synchronised(module, index == len(self.pieces) - 1):
                loss = loss_of() * (count / total)
                loss.backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        return torch.stack(losses).sum()

    def figures(self) -> dict[str, Float[Tensor, ""]]:
        """Return means over the pieces that were evaluated, and the figures of the advantages.

        They are "ratio" and "ratio_std", "clip_fraction", "surrogate_orm", "surrogate_prm", "distill" and "kl", as far
        as the objective has them; and of the whole trajectory those of `Advantages`: ``orm_NAME`` of each
        reward, "prm", and "flat_groups". Nothing before a piece was evaluated.
        """
        if not self.met:
            return {}
        counts = torch.stack([met["count"] for met in self.met])
        means = {
            name: (torch.stack([met[name] for met in self.met]) * counts).sum() / counts.sum()
            for name in self.met[0]
            if name != "count"
        }
        square = means.pop("ratio_square")  # of ρ − 1: the square of a number near 1 would leave nothing
        means["ratio_std"] = (square - (means["ratio"] - 1).square()).clamp(min=0).sqrt()
        return {**self.rewards, **means}


@contextlib.contextmanager
def _synchronised(module: nn.Module | None, last: bool) -> Iterator[None]:
    wrapped: Any = module
    if hasattr(module, "set_requires_gradient_sync"):
        wrapped.set_requires_gradient_sync(last)
        yield
    elif last or not hasattr(module, "no_sync"):
        yield
    else:
        with wrapped.no_sync():
            yield
