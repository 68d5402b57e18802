"""References for the spiking network: backpropagation on the same images with as many hidden cells.

``mlp`` has rectifiers. ``surrogate-snn`` has leaky integrate-and-fire cells, driven for 20 steps by the pixels as a
constant current,

    v_t = 0.9 v_{t−1} + W x − s_{t−1},      s_t = [v_t > 1],      ds/dv ≈ 1 / (1 + 10 |v − 1|)²,

and leaky output cells that do not spike; their mean voltage is the score. The threshold's derivative is replaced by a
fast sigmoid's (Zenke and Ganguli, Neural Computation 30 (2018)). Both learn with Adam and cross entropy.

Streams: ``init`` for the weights, ``split`` for the choice of training examples, ``data`` for their order.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.nn import functional as F
from torch.optim.lr_scheduler import ConstantLR

from aleator.data import BudgetPlan, Examples, InMemoryLoader, RepeatedRandomSampler, load
from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.random import Streams
from aleator.recipes.images.examples import full_size, image_splits, measured, on_device
from aleator.recipes.parts.gradient_task import GradientTask, whole_rounds
from aleator.recipes.spiking.task import grey_images

if TYPE_CHECKING:
    from aleator.recipes.spiking.options import Spiking

STEPS, LEAK, STEEPNESS = 20, 0.9, 10.0


class _Spike(torch.autograd.Function):
    """Whether a voltage is above the threshold 1, with a smooth derivative."""

    @staticmethod
    def forward(ctx: Any, voltage: Tensor) -> Tensor:
        ctx.save_for_backward(voltage)
        return (voltage > 1).to(voltage.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (voltage,) = ctx.saved_tensors
        return cast("Tensor", gradients[0] / (1 + STEEPNESS * (voltage - 1).abs()) ** 2)


class SpikingReference(nn.Module):
    """One hidden layer of integrate-and-fire cells; see the module.

    Args:
        inputs: number of pixels.
        hidden: number of hidden cells.
        classes: number of classes.
    """

    def __init__(self, inputs: int, hidden: int, classes: int) -> None:
        super().__init__()
        self.hidden = nn.Linear(inputs, hidden)
        self.readout = nn.Linear(hidden, classes)

    def forward(self, pixels: Tensor) -> Tensor:
        """Return the scores [batch, classes] of pixels [batch, inputs] in 0…1."""
        current = self.hidden(pixels)
        voltage = spikes = torch.zeros_like(current)
        output = total = pixels.new_zeros(len(pixels), self.readout.out_features)
        for _ in range(STEPS):
            voltage = LEAK * voltage + current - spikes
            spikes = cast("Tensor", _Spike.apply(voltage))  # type: ignore[no-untyped-call]
            output = LEAK * output + self.readout(spikes)
            total = total + output
        return total / STEPS


def _mlp(inputs: int, hidden: int, classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, classes))


class ReferenceTask(GradientTask):
    """A network of the same size that learns by backpropagation; see `aleator.experiment.Task`."""

    headline = Headline("accuracy", "max")
    sampler: RepeatedRandomSampler

    def __init__(self, options: Spiking, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.accelerator = options, accelerator
        images = load(options.data)
        splits = image_splits(images, options, streams)
        self.full_size = full_size(images, options)
        self.examples = {
            name: on_device(Examples(*grey_images(images, split)), accelerator.device) for name, split in splits.items()
        }
        train = self.examples["train"]
        steps = BudgetPlan(len(train.targets), 1.0, options.epochs, options.samples_together).total_steps
        self.budget = Budget(steps * options.samples_together, "examples")
        self.evaluate_every = max(1, steps * options.samples_together // 5)
        self.sampler = whole_rounds(len(train.targets), options.samples_together, streams, accelerator)
        build = _mlp if options.model == "mlp" else SpikingReference
        model = build(train.inputs.shape[1], options.hidden, len(images.classes)).to(accelerator.device)
        self.model = accelerator.prepare_model(model)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=0.001 if options.lr is None else options.lr)
        self.schedule = ConstantLR(self.optimizer, factor=1.0)
        self.gradient_step = GradientStep(accelerator, self.model, self.optimizer, schedule=self.schedule)

    def train_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield this process's share of the batches, round after round."""
        while True:
            yield from InMemoryLoader(self.examples["train"], self.sampler.batches(self.options.samples_together))

    def train_step(self, batch: tuple[Tensor, ...]) -> StepResult:
        """Take one step on a batch of (pixels, labels)."""
        pixels, labels = batch
        report = self.gradient_step([(len(labels), lambda: F.cross_entropy(self._scores(pixels), labels))])
        size = self.options.samples_together
        return StepResult({"loss": report.loss}, progress=size, examples=size, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return accuracy and cross entropy."""
        self.model.eval()
        metrics = measured(self._scores, self.examples[split], self.accelerator)
        self.model.train()
        return metrics

    def _scores(self, pixels: Tensor) -> Tensor:
        return cast("Tensor", self.model(pixels.float() / 255))
