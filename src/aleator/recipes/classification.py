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

from aleator.data import BudgetPlan, Examples, InMemoryLoader, LabelledImages, RepeatedRandomSampler, load
from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import load_training_state, training_state
from aleator.optim import SMOOTH_STEP
from aleator.random import Streams
from aleator.recipes.image_models import image_model, rescale
from aleator.recipes.images import crop, flip
from aleator.recipes.surrogate_step import SurrogateGradientStep
from aleator.recipes.training import make_optimizer, make_schedule, placed

if TYPE_CHECKING:
    from aleator.recipes.classify import Classify

EVALUATION_BATCH = 1000

_log = logging.getLogger("aleator.recipes")


class ClassificationTask:
    """A classifier in training; see `aleator.experiment.Task`."""

    headline = Headline("accuracy", "max")

    def __init__(self, options: Classify, streams: Streams, accelerator: Accelerator) -> None:
        self.options = options
        self.accelerator = accelerator
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.images = load(options.data)
        splits = _splits(self.images, options, streams)
        self.held_out = {name: _to(splits[name], accelerator.device) for name in ("validation", "test")}

        # Which examples a step sees, and how many steps there are.
        train, self.sampler = _subset(splits["train"], options, streams, accelerator)
        self.train = _to(train, accelerator.device)
        steps, schedule_steps = _lengths(len(splits["train"].targets), options)
        self.budget = Budget(steps, "steps")

        # The model.
        model = image_model(options.model, _shape(self.train.inputs), len(self.images.classes)).to(self.dtype)
        if options.rescale != 1:
            rescale(model, options.rescale)
        self.model = placed(model, options, accelerator)
        self.augmentation = streams.generator("augmentation", rank=accelerator.process_index, device=accelerator.device)

        # How a gradient becomes a step.
        self.optimizer = make_optimizer(self.model, options, schedule_steps)
        self.schedule = make_schedule(self.optimizer, options, schedule_steps)
        self.gradient_step = GradientStep(
            accelerator,
            self.model,
            self.optimizer,
            schedule=self.schedule,
            max_grad_norm=options.max_grad_norm,
        )
        self.surrogate = None
        if options.surrogate is not None:
            gamma = options.target_step_size or SMOOTH_STEP["cross-entropy"]
            self.surrogate = SurrogateGradientStep(
                accelerator, self.model, self.optimizer, self.schedule, gamma, options.surrogate
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
        """Return accuracy, mean cross entropy, and the number of examples they were measured on."""
        rank, processes = self.accelerator.process_index, self.accelerator.num_processes
        inputs, targets = (tensor[rank::processes] for tensor in self.held_out[split])
        sums = torch.zeros(3, dtype=torch.float64, device=self.accelerator.device)
        self.model.eval()
        batches = (torch.split(tensor, EVALUATION_BATCH) for tensor in (inputs, targets))
        for x, y in zip(*batches, strict=True):
            with self.accelerator.autocast():
                scores = self.model(self._network_input(x)).to(self.dtype)
            loss = F.cross_entropy(scores, y, reduction="sum")
            sums += torch.stack([loss.double(), (scores.argmax(1) == y).sum().double(), sums.new_tensor(len(y))])
        self.model.train()
        loss_sum, correct, count = self.accelerator.reduce(sums, reduction="sum").tolist()
        counts = self.surrogate.counts() if self.surrogate is not None else {}
        return {"accuracy": correct / count, "loss": loss_sum / count, "examples": count, **counts}

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule and the position in the data."""
        scaler = self.accelerator.scaler
        return {
            **training_state(self.model, self.optimizer),
            "schedule": self.schedule.state_dict(),
            "sampler": self.sampler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
            "surrogate": self.surrogate.counts() if self.surrogate is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        load_training_state(self.model, self.optimizer, state)
        self.schedule.load_state_dict(state["schedule"])
        self.sampler.load_state_dict(state["sampler"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
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
        if self.options.inputs == "unit":
            return inputs.to(self.dtype) / self.images.max_value
        return self.images.normalise(inputs, self.dtype)


def _splits(images: LabelledImages, options: Classify, streams: Streams) -> dict[str, Examples]:
    """Cut validation out of training, the same for every seed, then draw the training examples of this seed."""
    available = len(images.train.targets)
    held_out = available // 10 if options.validation_size is None else options.validation_size
    if held_out >= available:
        raise ValueError(f"validation_size must be below the {available} training examples, got {held_out}")
    fixed = torch.randperm(available, generator=Streams(0).generator("classify", "validation", images.name))
    rest = fixed[held_out:].sort().values
    if options.train_size is not None:
        if options.train_size > len(rest):
            raise ValueError(f"train_size must be at most {len(rest)} for {images.name}, got {options.train_size}")
        rest = rest[torch.randperm(len(rest), generator=streams.generator("split"))[: options.train_size]]
    test = images.test
    if options.test_size is not None:
        if options.test_size > len(test.targets):
            raise ValueError(f"test_size must be at most {len(test.targets)}, got {options.test_size}")
        test = Examples(test.inputs[: options.test_size], test.targets[: options.test_size])
    return {"train": _take(images.train, rest), "validation": _take(images.train, fixed[:held_out]), "test": test}


def _subset(
    train: Examples, options: Classify, streams: Streams, accelerator: Accelerator
) -> tuple[Examples, RepeatedRandomSampler]:
    """Return the examples kept in memory and the sampler that orders them."""
    processes = accelerator.num_processes
    if options.batch_size % processes:
        raise ValueError(f"batch_size must be a multiple of the {processes} processes, got {options.batch_size}")
    ranks = {"num_replicas": processes, "rank": accelerator.process_index}
    data = streams.generator("data")
    if options.subset == "static":
        drawn = RepeatedRandomSampler(
            labels=train.targets,
            ratio=options.ratio,
            stratified=options.stratified,
            generator=streams.generator("subset"),
        ).round_indices(0)
        train = _take(train, drawn)
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


def _take(examples: Examples, indices: Tensor) -> Examples:
    return Examples(examples.inputs[indices], examples.targets[indices])


def _to(examples: Examples, device: torch.device) -> Examples:
    return Examples(examples.inputs.to(device), examples.targets.to(device))


def _shape(inputs: Tensor) -> tuple[int, int, int]:
    channels, height, width = inputs.shape[1:]
    return channels, height, width
