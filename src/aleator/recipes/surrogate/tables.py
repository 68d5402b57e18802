"""The task behind the supervised problems of the recipe ``surrogate``: a table of features and classes.

The loss of a call is a function of the outputs for its examples; what is compared is the mean over the training
examples after a number of calls, the objective itself. Streams: ``split`` for the held-out examples, ``init`` for the
weights, ``data`` for the order of mini-batches.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import Accelerator
from jaxtyping import Float, Int64
from sklearn import datasets
from torch import Tensor
from torch.nn import functional as F

from aleator.data import InMemoryLoader, RepeatedRandomSampler
from aleator.experiment import Budget, Headline, Split, StepResult
from aleator.optim import SMOOTH_STEP
from aleator.random import Streams
from aleator.recipes.surrogate.updates import TargetUpdates, model_of

if TYPE_CHECKING:
    from aleator.recipes.surrogate.options import Surrogate


class Table(NamedTuple):
    """Features of examples, and their classes counted from 0."""

    features: Float[Tensor, "n d"]
    classes: Int64[Tensor, " n"]


class SupervisedTask:
    """A model that target gradients update; see `aleator.experiment.Task`."""

    headline = Headline("train_loss", "min")

    def __init__(self, options: Surrogate, streams: Streams, accelerator: Accelerator) -> None:
        self.options = options
        self.budget = Budget(options.calls, "calls")
        self.tables = _tables(options, streams, accelerator.device)
        train = self.tables["train"]
        if options.batch_size is not None and options.batch_size > len(train.classes):
            raise ValueError(f"batch_size must be at most {len(train.classes)}, got {options.batch_size}")
        classes = max(int(table.classes.max()) for table in self.tables.values() if len(table.classes)) + 1
        self.loss = options.loss or ("softmax" if options.problem == "digits" else "logistic")
        # Two classes need one output, but for the softmax.
        outputs = 1 if classes == 2 and self.loss != "softmax" else classes
        self.model = model_of(options, train.features.shape[1], outputs).to(accelerator.device)
        name = "cross-entropy" if self.loss == "softmax" else self.loss
        self.updates = TargetUpdates(self.model, options, SMOOTH_STEP[name])
        self.sampler = RepeatedRandomSampler(len(train.classes), ratio=1.0, generator=streams.generator("data"))
        self.reached: dict[str, float] = {}

    def train_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield batches of features and classes without end, from the next one."""
        train = self.tables["train"]
        while True:
            if self.options.batch_size is None:
                yield tuple(train)  # the same tensors each time, so that an exact solver factors them once
            else:
                yield from InMemoryLoader(train, self.sampler.batches(self.options.batch_size))

    def train_step(self, batch: tuple[Tensor, ...]) -> StepResult:
        """Use one target gradient."""
        features, classes = batch
        result = self.updates(features, functools.partial(self._losses, classes))
        calls = self.updates.counts["target_gradient_calls"]
        if calls in self.options.loss_after:
            self.reached[f"train_loss_after_{calls}"] = self._scores("train")[0]
        return result

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the training loss, now and after the calls asked for, held-out loss and accuracy, and counts."""
        metrics = {"train_loss": self._scores("train")[0], **self.reached}
        if len(self.tables[split].classes):
            loss, accuracy = self._scores(split)
            metrics |= {"held_out_loss": loss, "accuracy": accuracy}
        return metrics | self.totals()

    def totals(self) -> dict[str, float]:
        """Return the counts, for every line of the log."""
        return self.updates.totals()

    def state_dict(self) -> dict[str, Any]:
        """Return weights, the method's state, the position in the data, and losses that were asked for."""
        return {**self.updates.state_dict(), "sampler": self.sampler.state_dict(), "reached": dict(self.reached)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.updates.load_state_dict(state)
        self.sampler.load_state_dict(state["sampler"])
        self.reached = dict(state["reached"])

    def _losses(self, classes: Tensor, scores: Tensor) -> Tensor:
        """Return the loss of each example as a function of its outputs."""
        if self.loss == "softmax":
            return F.cross_entropy(scores, classes, reduction="none")
        outputs = scores.shape[1]
        wanted = (classes[:, None] if outputs == 1 else F.one_hot(classes, outputs)).to(scores.dtype)
        if self.loss == "squared":
            return (scores - wanted).square().sum(1)
        return F.binary_cross_entropy_with_logits(scores, wanted, reduction="none").sum(1)

    @torch.no_grad()
    def _scores(self, name: str) -> tuple[float, float]:
        """Return the mean loss and the accuracy on a table."""
        features, classes = self.tables[name]
        scores = self.model(features)
        middle = 0.5 if self.loss == "squared" else 0.0
        guesses = (scores[:, 0] > middle).long() if scores.shape[1] == 1 else scores.argmax(1)
        return float(self._losses(classes, scores).mean()), float((guesses == classes).double().mean())


def _tables(options: Surrogate, streams: Streams, device: torch.device) -> dict[str, Table]:
    """Hold examples out, drawn anew for each seed, and scale all features by what the training examples say."""
    features, classes = (torch.from_numpy(array) for array in _read(options.problem))
    features, classes = features.to(torch.float64), classes.to(torch.int64)
    order = torch.randperm(len(classes), generator=streams.generator("split"))
    held_out = round(options.option("held_out") * len(classes))
    test, validation = order[: held_out // 2], order[held_out // 2 : held_out]
    train = order[held_out:].sort().values
    kept = features[train]
    if options.option("features") == "standardised":
        features = (features - kept.mean(0)) / _or_one(kept.std(0, correction=0))
    elif options.option("features") == "max-scaled":
        features = features / _or_one(kept.abs().amax(0))
    features = features.to(device, torch.float64 if options.precision == "float64" else torch.float32)
    parts = {"train": train, "validation": validation, "test": test}
    return {name: Table(features[rows.to(device)], classes[rows].to(device)) for name, rows in parts.items()}


def _read(problem: str) -> tuple[Any, Any]:
    if problem == "generated":
        # scale=None draws a scale between 1 and 100 for every feature. The same examples for every seed.
        made: tuple[Any, Any] = datasets.make_classification(
            n_samples=20_000, n_features=100, n_informative=30, flip_y=0.05, scale=None, random_state=0
        )
        return made
    load = {"breast-cancer": datasets.load_breast_cancer, "digits": datasets.load_digits}[problem]
    read: tuple[Any, Any] = load(return_X_y=True)
    return read


def _or_one(scale: Tensor) -> Tensor:
    """A feature that is constant has no scale."""
    return torch.where(scale > 0, scale, 1.0)
