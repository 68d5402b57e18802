"""The task behind the recipe ``gates``: images in memory, a gated classifier, cross entropy and a penalty.

Gates are sampled while training. An evaluation first sets their threshold so that on validation data the share wanted
is open, and is then deterministic; on test data the share that is open is therefore a measurement.

Streams: ``init`` for the weights, ``split`` for the choice of training examples, ``data`` for their order, ``gates``
for the noise. The noise is drawn for the batch of all processes, of which each takes its part. Runs of one seed share
the streams, so variants differ only in what they change.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, cast

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from aleator.data import BudgetPlan, InMemoryLoader, RepeatedRandomSampler, load
from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import unwrapped
from aleator.nn import ConditionalLinear
from aleator.random import Streams
from aleator.recipes.gates.models import GatedClassifier, bound_norms
from aleator.recipes.images.examples import (
    EVALUATION_BATCH,
    full_size,
    image_splits,
    measured,
    network_input,
    on_device,
)
from aleator.recipes.parts.optimizers import GradientTask, make_optimizer, make_schedule, placed, whole_rounds

if TYPE_CHECKING:
    from aleator.recipes.gates.options import Gates


class GatingTask(GradientTask):
    """A gated classifier in training; see `aleator.experiment.Task`."""

    headline = Headline("accuracy", "max")
    sampler: RepeatedRandomSampler

    def __init__(self, options: Gates, streams: Streams, accelerator: Accelerator) -> None:
        self.options = options
        self.accelerator = accelerator
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.images = load(options.data)
        splits = image_splits(self.images, options, streams)
        self.full_size = full_size(self.images, options)
        self.held_out = {name: on_device(splits[name], accelerator.device) for name in ("validation", "test")}
        self.train = on_device(splits["train"], accelerator.device)

        count = len(self.train.targets)
        self.sampler = whole_rounds(count, options.batch_size, streams, accelerator)
        steps = BudgetPlan(count, 1.0, options.rounds, options.batch_size).total_steps
        self.budget = Budget(steps, "steps")
        self.noise = streams.generator("gates", device=accelerator.device)

        model = GatedClassifier(
            self.train.inputs[0].numel(),
            len(self.images.classes),
            gate=options.gate,
            experts=options.experts,
            gater_hidden=options.gater_hidden,
            block=options.block,
            sparsity=options.sparsity,
            penalty=options.penalty,
        )
        self.model = placed(model.to(self.dtype), options, accelerator)
        training = replace(options, momentum=0.0) if (options.optimizer, options.momentum) == ("sgd", None) else options
        self.optimizer = make_optimizer(
            self.model, training, steps, lambda name: options.gater_lr_ratio if ".gater." in name else 1.0
        )
        self.schedule = make_schedule(self.optimizer, training, steps)
        self.gradient_step = GradientStep(
            accelerator,
            self.model,
            self.optimizer,
            schedule=self.schedule,
            max_grad_norm=options.max_grad_norm,
        )

    @property
    def gated(self) -> ConditionalLinear | None:
        """The layer with gates, unless the network has none or sigmoids."""
        return self._classifier.gated

    def train_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield this process's share of the batches, round after round."""
        while True:
            yield from InMemoryLoader(self.train, self.sampler.batches(self.options.batch_size))

    def train_step(self, batch: tuple[Tensor, ...]) -> StepResult:
        """Take one step on a batch of (images, labels)."""
        inputs, targets = batch
        lr = torch.tensor(self.schedule.get_last_lr()[0])
        objective = partial(self._objective, self._network_input(inputs), targets, self._noise())
        report = self.gradient_step([(len(targets), objective)], total=self.options.batch_size)
        if self.options.max_norm is not None and not report.skipped:
            bound_norms(self.model, self.options.max_norm)
        metrics = {"loss": report.loss, "lr": lr}
        if self.gated is not None:
            metrics["active_fraction"] = self.gated.active_fraction.clone()
            metrics["penalty_weight"] = self.gated.penalty_weight.clone()
        if report.gradient_norm is not None:
            metrics["gradient_norm"] = report.gradient_norm
        return StepResult(metrics, examples=self.options.batch_size, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return accuracy, error, cross entropy, and what the gates do.

        The active fraction is the share of the experts that are computed, the mean over examples; the share of likely
        gates is that of the gates which training would open with a probability above one half.
        """
        self.model.eval()
        with self.accelerator.autocast():
            if self.gated is not None:
                self.gated.calibrate_threshold(self._batches("validation"))
            found = measured(self._scores, self.held_out[split], self.accelerator)
            metrics = {**found, "error": 1 - found["accuracy"], **self._activity(split)}
        self.model.train()
        return metrics

    def _objective(self, inputs: Tensor, targets: Tensor, noise: Tensor | None) -> Tensor:
        losses = F.cross_entropy(self.model(inputs, noise).to(self.dtype), targets, reduction="none")
        if self.gated is None:
            return losses.mean()
        penalty = self.gated.penalty()
        if self.gated.controller is not None:  # a sum over examples, of which other processes have the rest
            penalty = penalty * self.accelerator.num_processes
        return losses.mean() + self.gated.score_loss(losses) + penalty

    def _noise(self) -> Tensor | None:
        if self.gated is None or self.options.gate == "relu":
            return None
        draw = torch.randn if self.options.gate == "noisy-relu" else torch.rand
        shape = (self.options.batch_size, self.options.experts // self.options.block)
        whole = draw(shape, generator=self.noise, device=self.accelerator.device, dtype=self.dtype)
        return whole[self.accelerator.process_index :: self.accelerator.num_processes]

    def _activity(self, split: Split) -> dict[str, float]:
        """Every process looks at all examples, which takes the gater alone."""
        if self.gated is None:
            return {"active_fraction": self._classifier.width}
        open_, likely, count = 0.0, 0.0, 0
        for x in self._batches(split):
            logits = self.gated.gater(x).float()
            open_ += float((self.gated.gate(logits) != 0).double().sum())
            likely += float((self.gated.gate.estimator.probability(logits) > 0.5).double().sum())
            count += logits.numel()
        return {"active_fraction": open_ / count, "likely_fraction": likely / count}

    def _batches(self, split: Split) -> Iterator[Tensor]:
        for inputs in torch.split(self.held_out[split].inputs, EVALUATION_BATCH):
            yield self._network_input(inputs)

    def _scores(self, inputs: Tensor) -> Tensor:
        return self.model(self._network_input(inputs)).to(self.dtype)  # type: ignore[no-any-return]

    def _network_input(self, inputs: Tensor) -> Tensor:
        return network_input(self.images, inputs, self.options, self.dtype).flatten(1)

    @property
    def _classifier(self) -> GatedClassifier:
        return cast("GatedClassifier", unwrapped(self.model))
