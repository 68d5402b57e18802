"""The task behind the recipe ``classify``: images in memory, a classifier, cross entropy.

Streams: ``init`` for the weights, ``split`` for the choice of training examples, ``data`` for the order in which they
are seen, ``augmentation`` for flips and crops. Runs of one seed share them, so variants differ only in what they
change.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from accelerate import Accelerator
from torch import Tensor
from torch.nn import functional as F

from aleator.data import BudgetPlan, Examples, InMemoryLoader, RepeatedRandomSampler, load
from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import unwrapped
from aleator.nn import TrActPreconditioner, apply_tract, first_layer_group
from aleator.optim import SMOOTH_STEP
from aleator.random import Streams
from aleator.recipes.classify.augment import crop, flip
from aleator.recipes.classify.models import image_model, rescale
from aleator.recipes.images.examples import full_size, image_splits, measured, network_input, on_device, take
from aleator.recipes.parts.optimizers import GradientTask, check_shares, make_optimizer, make_schedule, placed
from aleator.recipes.parts.surrogate import SurrogateGradientStep

if TYPE_CHECKING:
    from aleator.recipes.classify.options import Classify

TRAIN_LOSS_SIZE = 2000

_log = logging.getLogger("aleator.recipes")


class ClassificationTask(GradientTask):
    """A classifier in training; see `aleator.experiment.Task`."""

    headline = Headline("accuracy", "max")
    sampler: RepeatedRandomSampler

    def __init__(self, options: Classify, streams: Streams, accelerator: Accelerator) -> None:
        self.options = options
        self.accelerator = accelerator
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.images = load(options.data)
        splits = image_splits(self.images, options, streams)
        self.full_size = full_size(self.images, options)
        self.held_out = {name: on_device(splits[name], accelerator.device) for name in ("validation", "test")}

        # Which examples a step sees, and how many steps there are.
        train, self.sampler = _subset(splits["train"], options, streams, accelerator)
        self.train = on_device(train, accelerator.device)
        steps, schedule_steps = _lengths(len(splits["train"].targets), options)
        self.budget = Budget(steps, "steps")

        # The model.
        model = image_model(options.model, _shape(self.train.inputs), len(self.images.classes)).to(self.dtype)
        if options.rescale != 1:
            rescale(model, options.rescale)
        if options.first_layer == "tract":
            whole = options.accumulate == 1 and accelerator.num_processes == 1
            apply_tract(model, lam=options.tract_lam, reduce="local" if whole else "global")
        self.model = placed(model, options, accelerator)
        self.augmentation = streams.generator("augmentation", rank=accelerator.process_index, device=accelerator.device)

        # How a gradient becomes a step.
        first: set[str] = set()
        if options.first_layer_lr_ratio != 1:
            chosen = set(first_layer_group(self.model)[0]["params"])
            first = {name for name, parameter in unwrapped(self.model).named_parameters() if parameter in chosen}
        self.optimizer = make_optimizer(
            self.model, options, schedule_steps, lambda name: options.first_layer_lr_ratio if name in first else 1.0
        )
        self.schedule = make_schedule(self.optimizer, options, schedule_steps)
        solve = [TrActPreconditioner(self.model).step] if options.first_layer == "tract" else []
        self.gradient_step = GradientStep(
            accelerator,
            self.model,
            self.optimizer,
            schedule=self.schedule,
            max_grad_norm=options.max_grad_norm,
            transform=solve,
        )
        self.surrogate = None
        if options.surrogate is not None:
            gamma = options.target_step_size or SMOOTH_STEP["cross-entropy"]
            self.surrogate = SurrogateGradientStep(
                accelerator, self.model, self.optimizer, self.schedule, gamma, options.surrogate, before_step=solve
            )

    def train_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield this process's share of the batches, round after round."""
        while True:
            yield from InMemoryLoader(self.train, self.sampler.batches(self.options.batch_size))

    def train_step(self, batch: tuple[Tensor, ...]) -> StepResult:
        """Take one step on a batch of (images, labels)."""
        inputs, targets = batch
        inputs = self._network_input(self._augmented(inputs))
        if self.surrogate is not None:
            return self.surrogate(inputs, partial(F.cross_entropy, target=targets, reduction="none"))
        pieces = zip(inputs.chunk(self.options.accumulate), targets.chunk(self.options.accumulate), strict=True)
        lr = torch.tensor(self.schedule.get_last_lr()[0])
        report = self.gradient_step(
            [(len(y), partial(self._loss, x, y)) for x, y in pieces], total=self.options.batch_size
        )
        metrics = {"loss": report.loss, "lr": lr}
        if report.gradient_norm is not None:
            metrics["gradient_norm"] = report.gradient_norm
        return StepResult(metrics, examples=self.options.batch_size, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return accuracy, mean cross entropy, and the number of examples they were measured on.

        With the test data, at the end, also ``train_loss``: the cross entropy on the first 2 000 training examples, not
        augmented, in evaluation mode.
        """
        self.model.eval()
        found = measured(self._scores, self.held_out[split], self.accelerator)
        if split == "test":
            seen = Examples(*(tensor[:TRAIN_LOSS_SIZE] for tensor in self.train))
            found["train_loss"] = measured(self._scores, seen, self.accelerator)["loss"]
        self.model.train()
        return found | self.totals()

    def totals(self) -> dict[str, float]:
        """Return the counts of a surrogate, for every line of the log."""
        return self.surrogate.counts() if self.surrogate is not None else {}

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule, the position in the data, and the counts of a surrogate."""
        return {**super().state_dict(), "surrogate": self.surrogate.counts() if self.surrogate is not None else None}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        super().load_state_dict(state)
        if self.surrogate is not None:
            self.surrogate.set_counts(state["surrogate"])

    def _loss(self, inputs: Tensor, targets: Tensor) -> Tensor:
        return F.cross_entropy(self.model(inputs), targets)

    def _augmented(self, inputs: Tensor) -> Tensor:
        if "flip" in self.options.augment:
            inputs = flip(inputs, self.augmentation)
        if "crop" in self.options.augment:
            inputs = crop(inputs, self.augmentation)
        return inputs

    def _network_input(self, inputs: Tensor) -> Tensor:
        return network_input(self.images, inputs, self.options, self.dtype)

    def _scores(self, inputs: Tensor) -> Tensor:
        with self.accelerator.autocast():
            return self.model(self._network_input(inputs)).to(self.dtype)  # type: ignore[no-any-return]


def _subset(
    train: Examples, options: Classify, streams: Streams, accelerator: Accelerator
) -> tuple[Examples, RepeatedRandomSampler]:
    """Return the examples kept in memory and the sampler that orders them."""
    check_shares(options.batch_size, accelerator)
    ranks = {"num_replicas": accelerator.num_processes, "rank": accelerator.process_index}
    data = streams.generator("data")
    if options.subset == "static":
        drawn = RepeatedRandomSampler(
            labels=train.targets,
            ratio=options.ratio,
            stratified=options.stratified,
            generator=streams.generator("subset"),
        ).round_indices(0)
        train = take(train, drawn)
        return train, RepeatedRandomSampler(len(drawn), ratio=1.0, generator=data, **ranks)
    sampler = RepeatedRandomSampler(
        labels=train.targets,
        ratio=1.0 if options.subset == "full" else options.ratio,
        replacement_between_rounds=options.subset == "rs2-with-replacement",
        stratified=options.stratified and options.subset != "full",
        generator=data,
        **ranks,
    )
    return train, sampler


def _lengths(num_train: int, options: Classify) -> tuple[int, int]:
    """Return the steps of the run and the steps that its schedule stretches over."""
    on_all = BudgetPlan(num_train, 1.0, options.rounds, options.batch_size).total_steps
    own = on_all
    if options.subset != "full" or options.schedule_length == "compressed":
        own = BudgetPlan(num_train, options.ratio, options.rounds, options.batch_size).total_steps
    elif options.ratio < 1:
        _log.warning("ratio %g has no effect on subset full with its own or the full schedule", options.ratio)
    schedule = on_all if options.schedule_length == "full" else own
    return (own if options.stop_at is None else min(own, options.stop_at)), schedule


def _shape(inputs: Tensor) -> tuple[int, int, int]:
    channels, height, width = inputs.shape[1:]
    return channels, height, width
