"""What a swarm learns: a loss as a function of named parameters, and batches that have addresses.

θ₀ is a function of the run alone, and batches have addresses, see `aleator.recipes.decentral.batches`.

`Digits` is the default: a small network that knows handwritten digits learns, by scalars only, to read them transposed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from aleator.data import load
from aleator.experiment import Split
from aleator.gradients import functional_loss, trainable
from aleator.random import Streams
from aleator.recipes.decentral.batches import batch_indices
from aleator.recipes.decentral.learned import TaskOptions

_GRID = 2.0**-12


@runtime_checkable
class SwarmTask(Protocol):
    """A task of a swarm.

    Attributes:
        theta: the weights before round 0, by name, float32.
        network: the module that they belong to; its own weights mean nothing.
    """

    theta: dict[str, Tensor]
    network: nn.Module

    def batch(self, number: int, machine: int, sample: int) -> Any:
        """Return the batch of a round, a machine and a sample."""
        ...

    def loss(self, theta: Mapping[str, Tensor], batch: Any) -> Float[Tensor, ""]:
        """Return the loss of a batch."""
        ...

    def evaluate(self, theta: Mapping[str, Tensor], split: Split) -> dict[str, float]:
        """Return loss, accuracy and the number of examples of a split."""
        ...


def make_task(options: TaskOptions, run: int) -> SwarmTask:
    """Return the task of a run, whose number decides θ₀ and all batches.

    Raises:
        ValueError: if options do not go together, or data do not suffice for them.
        FileNotFoundError: if data or the checkpoint are not there.
    """
    if options.learned == "digits":
        return Digits(options, run)
    from aleator.recipes.decentral.sentiment import Sentiment

    return Sentiment(options, run)


class Digits:
    """Handwritten digits, transposed, for a 64-32-10 network that has learned them upright.

    The first training, 150 steps of Adam on all examples, is computed in float64 and rounded to multiples of 2⁻¹²:
    processors that sum in other orders come to the same θ₀.
    """

    def __init__(self, options: TaskOptions, run: int) -> None:
        self.options, self.run = options, run
        digits = load("digits")
        order = torch.randperm(len(digits.train.inputs), generator=Streams(0).generator("validation"))
        held, kept = order[:200], order[200:]
        parts = {
            "train": (digits.train.inputs[kept], digits.train.targets[kept]),
            "validation": (digits.train.inputs[held], digits.train.targets[held]),
            "test": (digits.test.inputs, digits.test.targets),
        }
        upright = {name: (_pixels(x), y) for name, (x, y) in parts.items()}
        self.examples = {name: (_pixels(x.transpose(-1, -2)).float(), y) for name, (x, y) in parts.items()}
        with Streams(run).scope("init"):
            self.network: nn.Module = nn.Sequential(nn.Linear(64, 32), nn.Tanh(), nn.Linear(32, 10)).double()
        _learn(self.network, *upright["train"])
        self.network.float().requires_grad_(True)
        self.theta = trainable(self.network)
        self._loss = functional_loss(self.network, lambda net, batch: F.cross_entropy(net(batch[0]), batch[1]))

    def batch(self, number: int, machine: int, sample: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a round, a machine and a sample."""
        x, y = self.examples["train"]
        chosen = batch_indices(
            self.run, number, machine, sample,
            size=self.options.batch_size, examples=len(x), shards=self.options.shards,
        )  # fmt: skip
        return x[chosen], y[chosen]

    def loss(self, theta: Mapping[str, Tensor], batch: tuple[Tensor, Tensor]) -> Float[Tensor, ""]:
        """Return the cross entropy of a batch."""
        return self._loss(theta, batch)

    @torch.no_grad()
    def evaluate(self, theta: Mapping[str, Tensor], split: Split) -> dict[str, float]:
        """Return loss, accuracy and the number of examples of a split."""
        x, y = self.examples[split]
        scores = torch.func.functional_call(self.network, dict(theta), (x,))
        return {
            "loss": float(F.cross_entropy(scores, y)),
            "accuracy": float((scores.argmax(1) == y).double().mean()),
            "examples": len(y),
        }


def _pixels(images: Tensor) -> Float[Tensor, "images 64"]:
    """Pixels in [0, 1], in float64."""
    return images.double().flatten(1) / 16


def _learn(network: nn.Module, x: Tensor, y: Tensor) -> None:
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(150):
        optimizer.zero_grad()
        F.cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.copy_((parameter / _GRID).round() * _GRID)
