"""What a swarm is compared with: backpropagation and AdamW on the same batches, whose gradients would travel whole.

A step takes the mean gradient over the machines, each with a batch of its own, as data-parallel training does. Bytes
are those of an all-reduce in a ring, the least that is known: each of M machines sends 2 (M − 1)/M times its gradient.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import nn

from aleator.experiment import Budget, Exhibit, Headline, Split, StepResult
from aleator.random import Streams
from aleator.recipes.decentral import exhibits
from aleator.recipes.decentral.tasks import make_task

if TYPE_CHECKING:
    from aleator.recipes.decentral.options import Decentral


class BackpropTask:
    """AdamW on what a swarm would learn; see `aleator.experiment.Task`."""

    headline = Headline("accuracy", "max")

    def __init__(self, options: Decentral, streams: Streams, accelerator: Accelerator) -> None:
        if accelerator.num_processes > 1:
            raise ValueError(f"decentral must run in one process, got {accelerator.num_processes}")
        self.options = options
        self.problem = make_task(options, streams.key("swarm"))
        self.budget = Budget(options.rounds, "rounds")
        network = dict(self.problem.network.named_parameters())
        with torch.no_grad():
            for name, value in self.problem.theta.items():
                network[name].copy_(value)
        self.weights = {name: network[name] for name in self.problem.theta}
        self.optimizer = torch.optim.AdamW(self.weights.values(), lr=options.rate, weight_decay=options.weight_decay)
        self.done = 0
        self.curve: list[dict[str, float]] = []

    @property
    def model(self) -> nn.Module:
        """The network that learns."""
        return self.problem.network

    def train_batches(self) -> Iterator[int]:
        """Yield the number of the next step."""
        while True:
            yield self.done

    def train_step(self, batch: int) -> StepResult:
        """Take a step along the mean gradient of all machines."""
        self.optimizer.zero_grad()
        losses = []
        for machine in range(self.options.machines_here):
            loss = self.problem.loss(self.weights, self.problem.batch(batch, machine, 0))
            (loss / self.options.machines_here).backward()  # type: ignore[no-untyped-call]
            losses.append(loss.detach())
        self.done += 1
        mean = torch.stack(losses).mean()
        if not torch.isfinite(mean):
            return StepResult(skipped=True)
        self.optimizer.step()
        return StepResult({"loss": mean}, examples=self.options.batch_size * self.options.machines_here)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return loss and accuracy, and what they cost until now."""
        found = self.problem.evaluate(self.weights, split)
        machines = self.options.machines_here
        gradient = sum(value.numel() * value.element_size() for value in self.weights.values())
        cost = {
            "rounds": float(self.done),
            "forward_passes": float(self.done * machines),
            "bytes_sent": float(self.done * 2 * (machines - 1) * gradient),
        }
        if split == "validation":
            self.curve.append({**cost, "loss": found["loss"], "accuracy": found["accuracy"]})
        return {**found, **cost}

    def exhibits(self) -> Sequence[Exhibit]:
        """Return the loss against rounds, forward passes and bytes."""
        return exhibits.costs(self.curve) if self.curve else []

    def state_dict(self) -> dict[str, Any]:
        """Return the weights, the optimizer's state and the position."""
        return {
            "weights": {name: value.detach().clone() for name, value in self.weights.items()},
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
            "curve": [dict(point) for point in self.curve],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        with torch.no_grad():
            for name, value in self.weights.items():
                value.copy_(state["weights"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done, self.curve = state["done"], state["curve"]
