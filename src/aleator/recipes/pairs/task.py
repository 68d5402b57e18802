"""The tasks behind the recipe ``pairs``: one loop for all methods, and what they know about what they do not.

The weights that are tested are those with the lowest loss on validation data among the evaluations of a run: of pairs
for a pair head, of single responses for the others. All processes see all held-out items, which are few.

Streams: ``init`` for the weights; keys and generators of `aleator.recipes.pairs.data` for the items; the key
``members`` for passes of dropout and draws of Laplace.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from aleator.experiment import Budget, Exhibit, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import load_training_state, training_state, unwrapped
from aleator.nn import PairDistribution
from aleator.random import Streams
from aleator.recipes.pairs import digits_of_pi, exhibits
from aleator.recipes.pairs.data import ItemProblem, Part, PartName, Problem, problem
from aleator.recipes.pairs.laplace import LastLayerLaplace
from aleator.recipes.pairs.measures import Predictions, abstention, calibration, intervals
from aleator.recipes.pairs.models import DROPOUT, PairNetwork, SoftmaxNetworks
from aleator.recipes.pairs.options import MEMBERS

if TYPE_CHECKING:
    from aleator.recipes.pairs.options import Pairs

_AT_A_TIME = 500


class PairTask:
    """A network in training on pairs of responses; see `aleator.experiment.Task`."""

    headline = Headline("ece2", "min")
    problem: Problem

    def __init__(
        self,
        options: Pairs,
        accelerator: Accelerator,
        network: nn.Module,
        *,
        warmup: float = 0.0,
        max_grad_norm: float | None = None,
    ) -> None:
        self.options, self.accelerator, self.settings = options, accelerator, options.chosen
        if self.settings.batch_size % accelerator.num_processes:
            processes = accelerator.num_processes
            raise ValueError(
                f"batch_size must be a multiple of the {processes} processes, got {self.settings.batch_size}"
            )
        steps = self.settings.steps
        self.budget = Budget(steps, "steps")
        self.evaluate_every = max(1, steps // 5)
        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        self.model = accelerator.prepare_model(network.to(accelerator.device, self.dtype))
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), lr=self.settings.lr, weight_decay=self.settings.weight_decay
        )
        self.schedule = LambdaLR(self.optimizer, lambda step: _cosine(step, steps, round(warmup * steps)))
        self.gradient_step = GradientStep(
            accelerator, self.model, self.optimizer, schedule=self.schedule, max_grad_norm=max_grad_norm
        )
        self.step = 0
        self.best: dict[str, Any] | None = None

    def train_batches(self) -> Iterator[tuple[Tensor, ...]]:
        """Yield this process's share of the batches."""
        yield from self.problem.batches(self.step)

    def train_step(self, batch: tuple[Tensor, ...]) -> StepResult:
        """Take one step on a batch of (inputs, first responses, second responses)."""
        self.model.train()
        inputs, y1, y2 = batch
        lr = torch.tensor(self.schedule.get_last_lr()[0])
        report = self.gradient_step(
            [(len(y1), lambda: self.model(self._network_input(inputs), y1, y2).mean())], total=self.settings.batch_size
        )
        self.step += 1
        return StepResult({"loss": report.loss, "lr": lr}, examples=self.settings.batch_size, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return metrics on held-out items; a test is of the best weights, which stay in the model."""
        self.model.eval()
        if split == "test" and self.best is not None:
            self._network.load_state_dict(self.best["weights"])
        with self.accelerator.autocast():
            loss = self._loss("validation") if split == "validation" else None
            metrics = self._measured(split)
        if loss is not None:
            metrics["loss"] = loss
            if math.isfinite(loss) and (self.best is None or loss < self.best["loss"]):
                weights = {name: value.detach().clone() for name, value in self._network.state_dict().items()}
                self.best = {"loss": loss, "weights": weights}
        return metrics

    def state_dict(self) -> dict[str, Any]:
        """Return weights, the best ones so far, optimizer, schedule and the position."""
        scaler = self.accelerator.scaler
        return {
            **training_state(self.model, self.optimizer),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "best": self.best,
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        load_training_state(self.model, self.optimizer, state)
        self.schedule.load_state_dict(state["schedule"])
        self.step, self.best = state["step"], state["best"]
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])

    def _loss(self, name: PartName) -> float:
        part = self.problem.held_out[name]
        total = 0.0
        for inputs, y1, y2 in self._pieces(part):
            total += float(self._network(self._network_input(inputs), y1, y2).double().sum())
        return total / len(part.y1)

    def _measured(self, split: Split) -> dict[str, float]:
        raise NotImplementedError

    def _network_input(self, inputs: Tensor) -> Tensor:
        return self.problem.network_input(inputs, self.dtype)

    def _pieces(self, part: Part) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for piece in zip(*(torch.split(t, _AT_A_TIME) for t in (part.inputs, part.y1, part.y2)), strict=True):
            yield cast("tuple[Tensor, Tensor, Tensor]", tuple(t.to(self.accelerator.device) for t in piece))

    @property
    def _network(self) -> nn.Module:
        return unwrapped(self.model)


class ClassPairTask(PairTask):
    """A classifier; every method predicts a `PairDistribution`."""

    def __init__(self, options: Pairs, streams: Streams, accelerator: Accelerator) -> None:
        self.problem = problem(options, streams, accelerator)
        self.members_key = streams.key("members")
        self.members = options.members or MEMBERS.get(options.method, 1)
        network: nn.Module
        if options.method == "pair":
            head = options.chosen_head
            assert head is not None
            network = PairNetwork(options.data, self.problem.num_labels, head, options.chosen_components)
        else:
            networks = self.members if options.method == "ensemble" else 1
            dropout = DROPOUT if options.method == "dropout" else 0.0
            network = SoftmaxNetworks(options.data, self.problem.num_labels, networks, dropout)
        super().__init__(options, accelerator, network)
        self._shown: dict[PartName, Predictions] = {}

    def predict(self, part: Part) -> Predictions:
        """Return what the model says about held-out items."""
        laplace = self._laplace() if self.options.method == "laplace" else None
        found = []
        with Streams(self.members_key).scope("dropout"):
            for inputs, y1, y2 in self._pieces(part):
                x = self._network_input(inputs)
                network = self._network
                if isinstance(network, PairNetwork):
                    pairs = network.pairs(x)
                else:
                    assert isinstance(network, SoftmaxNetworks)
                    pairs = PairDistribution.from_members(self._members(network, x, laplace))
                found.append(Predictions.of(pairs, y1, y2))
        return Predictions(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def exhibits(self) -> Sequence[Exhibit]:
        """Return pictures of both orders of calibration, of the variances, and of whom to answer."""
        if not self._shown:
            return []
        found, part = self._shown["test"], self.problem.held_out["test"]
        drawn = [exhibits.first_order(found, part), exhibits.second_order(found, part)]
        if self.options.data == "half-line":
            drawn.append(exhibits.along_the_line(found, part))
        elif self.options.data == "digits-of-pi":
            everything = self._shown["shifted"], self.problem.held_out["shifted"]
            drawn.append(exhibits.along_the_digits(*everything))
            drawn.append(exhibits.answers(*everything, digits_of_pi.frequencies(), "false"))
        else:
            drawn.append(exhibits.spread_of_variances(found, part))
            weights = torch.full((len(part.y1),), 1 / len(part.y1), dtype=torch.float64)
            drawn.append(exhibits.answers(found, part, weights, "nobody's"))
        return drawn

    def _measured(self, split: Split) -> dict[str, float]:
        part = self.problem.held_out["test" if split == "test" else "validation"]
        found = self.predict(part)
        metrics = calibration(found, part)
        if self.options.data == "half-line":
            metrics |= _halves(found, part)
        if split == "validation":
            return metrics
        to_calibrate = self.problem.held_out["calibration"]
        metrics |= intervals(self.predict(to_calibrate), to_calibrate, found, part)
        shifted = self.problem.held_out["shifted"]
        elsewhere = self.predict(shifted)
        of_shifted = calibration(elsewhere, shifted)
        metrics |= {f"shifted_{name}": of_shifted[name] for name in ("ece2", "signed_gap", "nll", "brier", "accuracy")}
        self._shown = {"test": found, "shifted": elsewhere}
        if self.options.data == "digits-of-pi":
            metrics |= abstention(elsewhere, shifted.frequencies == 0, digits_of_pi.frequencies())
        elif self.options.data == "cifar10h":
            weights = torch.full((len(part.y1),), 1 / len(part.y1), dtype=torch.float64)
            metrics |= abstention(found, part.frequencies == 0, weights)
        return metrics

    def _members(self, network: SoftmaxNetworks, x: Tensor, laplace: LastLayerLaplace | None) -> Tensor:
        if laplace is not None:
            return laplace.probabilities(self._features(network, x))
        return network.passes(x, self.members) if self.options.method == "dropout" else network.probabilities(x)

    def _laplace(self) -> LastLayerLaplace:
        network = self._network
        assert isinstance(network, SoftmaxNetworks)
        assert isinstance(self.problem, ItemProblem)
        of_train = [
            self._features(network, self._network_input(inputs.to(self.accelerator.device)))
            for inputs in torch.split(self.problem.inputs, _AT_A_TIME)
        ]
        last = cast("nn.Sequential", network.members[0])[1]
        assert isinstance(last, nn.Linear)
        generator = Streams(self.members_key).generator("laplace")
        made = LastLayerLaplace(last, torch.cat(of_train), self.options.responses, self.members, generator)
        validation = self.problem.held_out["validation"]
        features = [self._features(network, self._network_input(inputs)) for inputs, _, _ in self._pieces(validation)]
        made.choose(torch.cat(features), *(y.to(features[0].device) for y in (validation.y1, validation.y2)))
        return made

    @staticmethod
    def _features(network: SoftmaxNetworks, x: Tensor) -> Tensor:
        return cast("nn.Sequential", network.members[0])[0](x).double()  # type: ignore[no-any-return]


def _halves(found: Predictions, part: Part) -> dict[str, float]:
    """Return what is claimed and what is true on either side of 0."""
    assert part.p_true is not None
    errors = (found.p - part.p_true).square()
    metrics = {}
    for name, side in (("left", part.inputs < 0), ("right", part.inputs >= 0)):
        metrics[f"variance_{name}"] = float(found.variance[side].mean())
        metrics[f"squared_error_{name}"] = float(errors[side].mean())
    metrics["variance_right_ratio"] = metrics["variance_right"] / metrics["squared_error_right"]
    return metrics


def _cosine(step: int, steps: int, warmup: int) -> float:
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
