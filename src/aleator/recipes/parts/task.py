"""The task behind every supervised recipe: examples, a network, a loss for each example.

A training step is put together here and nowhere else:

    batch → augmentation, drawn after the batch was taken → before_step
          → for each piece: forward, losses, weights, penalty, backward, after_piece
          → reduce, unscale → observe → transform → finite? → clip → optimizer → schedule → after_step

What a recipe says (`aleator.recipes.Supervised`) and what its parts do meet in it. Streams: ``splits`` for what a
recipe draws there, ``init`` for the weights, ``split`` for the choice of training examples, ``data`` for their order,
``augmentation`` for augmentation, and the streams of the parts. Runs of one seed share them, so variants differ only in
what they change.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from aleator.experiment import Budget, GradientStep, Headline, Split, StepResult
from aleator.experiment.gradient_step import GradientReport, Loss
from aleator.experiment.model_state import share_buffers, unwrapped
from aleator.experiment.own_lines import comes_from
from aleator.gradients.modes import modes_kept
from aleator.random import Streams
from aleator.recipes.parts.acts import Acts, once
from aleator.recipes.parts.batch import Batch, Batches, Examples, evaluation_batches, length
from aleator.recipes.parts.gradient_task import GradientTask, endless, placed, whole_rounds
from aleator.recipes.parts.losses import by_example, has_classes, wide
from aleator.recipes.parts.optimizers import make_optimizer, make_schedule
from aleator.recipes.parts.part import Descent, Order, Sizes
from aleator.recipes.parts.run import Run

if TYPE_CHECKING:
    from aleator.recipes.parts.supervised import SupervisedBase

TRAIN_LOSS_SIZE = 2000


class SupervisedTask(GradientTask):
    """A network in training; see `aleator.experiment.Task`.

    Attributes:
        options: the recipe.
        train: the examples kept for training.
        held_out: the others, by the name of their split.
        acts: of the recipe's parts.
    """

    def __init__(self, options: SupervisedBase, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.accelerator = options, accelerator
        self.run = Run(options, streams, accelerator)
        self.dtype = self.run.dtype
        self.acts = Acts(self.run)
        with streams.scope("splits"):
            splits = options.splits(streams)
        train, self.held_out = self._examples(splits)
        self.headline = options.headline or _headline(self.held_out["validation"])

        # Which examples a step sees, in which order, how many at a time.
        if (groups := options.groups(splits)) is not None:
            if options.resplit:
                raise ValueError("resplit cannot be used with groups of training examples, got True")
            train = train.grouped(*groups)
        self.full_size = len(train)
        train = _drawn(train, options.train_size, streams)
        kept = self.acts.one("kept", train)
        self.train = (train if kept is None else train.take(kept)).on(accelerator.device)
        order = self.acts.one("ordered", self.train) or self._in_rounds()
        self.sizes: Sizes | None = self.acts.one("sized", order)
        self.sampler = self.batches = self._batches(order)
        self.budget = self._budget(order)

        # The network.
        network = options.network(splits)
        if self.dtype == torch.float64:
            network = network.double()
        self.model = placed(self.acts.wrapped(network), options, accelerator)
        self._forward = self.acts.through("called", self._call)
        self.augmentation = self.run.generator("augmentation", per_process=True, on_device=True)

        # How a gradient becomes a step.
        supplied = {"n_data": len(self.train), "generator": self.run.generator("noise of steps", on_device=True)}
        optimizer = make_optimizer(self.model, options, order.schedule_steps, self.acts.lr_ratio, supplied)
        self.optimizer = self.acts.through("optimized", optimizer)
        scheduled = self.acts.one("scheduled", self.optimizer)
        self.schedule = scheduled or make_schedule(self.optimizer, options, order.schedule_steps)
        self._descent: Descent | None = self.acts.one("descent", self)
        self._gradient_step: GradientStep | None = None
        if self._descent is not None:
            self.acts.check_places(self._descent, ", ".join(options.descents()) or type(self._descent).__name__)
        else:
            self._gradient_step = GradientStep(
                accelerator,
                self.model,
                self.optimizer,
                schedule=self.schedule,
                max_grad_norm=options.max_grad_norm,
                after_piece=self.acts.of("after_piece"),
                observe=self.acts.of("observe"),
                transform=self.acts.of("transform"),
            )
        self._before_step, self._after_step = self.acts.of("before_step"), self.acts.of("after_step")
        self._weighs, self._penalties = bool(self.acts.of("weights")), self.acts.of("penalty")
        if options.says("objective") and (self._weighs or self._penalties or self._descent is not None):
            raise ValueError("objective cannot be used with parts that need the loss of every example: define losses")
        self._test_examples: list[tuple[Tensor, Tensor] | None] = []
        once(self.acts.of("started"), self)

    # --- the run loop's names

    def train_batches(self) -> Iterator[Batch]:
        """Yield this process's share of the batches, pass after pass."""
        return iter(self.batches)

    def train_step(self, batch: Batch) -> StepResult:
        """Take one step on a batch."""
        batch = self._prepared(batch)
        once(self._before_step, batch)
        lr = torch.tensor(self.optimizer.param_groups[0]["lr"])
        more: Mapping[str, Tensor] = {}
        if self._descent is not None:
            report, more = self._descent(batch)
        else:
            report = self._descend(batch)
        reasons = [reason for see in self._after_step if (reason := see(report)) is not None]
        metrics = {"loss": report.loss, "lr": lr, **more, **self.acts.merged("logged")}
        if report.gradient_norm is not None:
            metrics["gradient_norm"] = report.gradient_norm
        return StepResult(
            metrics,
            progress=batch.total if self.sizes is not None else 1,
            examples=batch.total,
            skipped=report.skipped,
            stop="; ".join(reasons) or None,
        )

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the loss, the recipe's metrics, and the number of examples they were measured on.

        With the test data, at the end, also ``train_loss``: the loss on the first 2 000 training examples, not
        augmented, in evaluation mode.
        """
        self.model.eval()
        share_buffers(self.model)
        for prepare in self.acts.of("before_evaluation"):
            prepare(split)
        each = self._test_examples = []
        found = self._measured(self.held_out[split], each=each if split == "test" else None)
        if split == "test":
            seen = self.train.take(torch.arange(min(TRAIN_LOSS_SIZE, len(self.train))))
            found["train_loss"] = self._measured(seen, scores=False)["loss"]
        for measure in self.acts.of("measured"):
            found |= measure(split, found)
        self.model.train()
        return found | self.totals()

    def test_examples(self) -> tuple[Tensor, Tensor] | None:
        """Return the headline's values and counts of this process's test examples; None where it is no mean of them."""
        if not self._test_examples:
            return torch.empty(0), torch.empty(0)
        batches = [batch for batch in self._test_examples if batch is not None]
        if len(batches) < len(self._test_examples):
            return None
        return torch.cat([values for values, _ in batches]), torch.cat([counts for _, counts in batches])

    def totals(self) -> dict[str, float]:
        """Return the counts of the parts, for every line of the log."""
        return self.acts.merged("totals")

    def saved_models(self) -> dict[str, nn.Module]:
        """Return further models that the run loop saves beside the last weights."""
        return self.acts.merged("saved")

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule, the position in the data, and the memories of the parts."""
        descent = self._descent.state_dict() if self._descent is not None else None
        return {**super().state_dict(), "parts": self.acts.state_dict(), "descent": descent}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        super().load_state_dict(state)
        self.acts.load_state_dict(state["parts"])
        if self._descent is not None:
            self._descent.load_state_dict(state["descent"])

    # --- what parts may ask

    @contextlib.contextmanager
    def aside(self, stream: str) -> Iterator[nn.Module]:
        """Yield the model for passes that are no part of the training step.

        It is neither wrapped for several processes nor compiled, and autocast is off. Parts are switched off. At the
        end of the block buffers, gradients, modes, the parts' memories and all random streams are as they were.

        Args:
            stream: from which torch's global generator draws inside the block; it goes on from block to block.
        """
        model = unwrapped(self.model)
        buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]
        gradients = [(parameter, parameter.grad) for parameter in model.parameters()]
        for parameter, _ in gradients:
            parameter.grad = None
        streams = self.run.streams
        try:
            with (
                modes_kept(model),
                streams.kept(except_for=("aside", stream)),
                streams.scope("aside", stream, rank=self.run.rank),
                torch.autocast(self.run.device.type, enabled=False),
                self.acts.aside(),
            ):
                yield model
        finally:
            with torch.no_grad():
                for buffer, before in buffers:
                    buffer.copy_(before)
            for parameter, gradient in gradients:
                parameter.grad = gradient

    def losses(self, inputs: Any, targets: Any) -> Loss:
        """Return the loss of each example of some prepared inputs, as the network is called in training."""
        return self.options.losses(self._forward(inputs), targets)

    def prepared_inputs(self, inputs: Any) -> Any:
        """Return inputs as the network wants them."""
        prepared = self.options.prepared(inputs)
        return _as_dtype(prepared, self.dtype)

    def prepared_examples(self, inputs: Any, targets: Any) -> tuple[Any, Any]:
        """Return inputs as the network wants them, and targets in its precision."""
        return self.prepared_inputs(inputs), _as_dtype(targets, self.dtype)

    # --- what a probe of the curvature asks

    def per_sample_loss(self, model: nn.Module, batch: tuple[Any, Any]) -> Tensor:
        """Return the loss of each example of a batch as it comes from `probe_batches`.

        Where losses have counts, as those of tokens have, an example's loss is its sum over the mean count of an
        example of the batch, so that the mean over examples is that over their parts.

        Args:
            model: the network, neither wrapped nor compiled.
            batch: inputs, not prepared, and targets.

        Raises:
            ValueError: if the recipe has an objective, which is no mean over examples.
        """
        if self.options.says("objective"):
            raise ValueError(f"{type(self.options).__name__} has an objective, which has no loss for each example")
        inputs, targets = self.prepared_examples(*batch)
        found = self.options.losses(self.options.forward(model, inputs), targets)
        if not isinstance(found, tuple):
            return found
        values, counts = found
        return values.reshape(len(values), -1).sum(1) * (len(values) / counts.sum(dtype=wide(counts)))

    def probe_batches(self, rows: Tensor | None = None, size: int | None = None) -> Iterator[tuple[Any, Any]]:
        """Yield this process's share of training examples, not augmented, as batches (inputs, targets).

        Args:
            rows: which examples, by their places among those kept for training; None is all of them, in an order that
                the stream ``probe`` draws.
            size: examples of a batch on this process; None is ``batch_size``.
        """
        if rows is None:
            rows = torch.randperm(len(self.train), generator=self.run.generator("probe"))
        return evaluation_batches(
            self.train.take(rows),
            self.options.batch_size if size is None else size,
            rank=self.run.rank,
            processes=self.run.processes,
            device=self.run.device,
            workers=0,
            key=self.run.streams.key("read"),
        )

    # --- a step

    def _prepared(self, batch: Batch) -> Batch:
        augmented = self.options.augmented(batch.inputs, batch.targets, self.augmentation)
        return batch.with_examples(*self.prepared_examples(*augmented))

    def _descend(self, batch: Batch) -> GradientReport:
        assert self._gradient_step is not None
        count = self.options.accumulate if self.sizes is None else self.sizes.pieces(batch.total)
        weights = self.acts.weights(batch) if self._weighs else None
        pieces: list[tuple[int, Callable[[], Loss]]] = []
        for inputs, targets, places in batch.pieces(count):
            own = None if weights is None else weights[places.to(weights.device)]
            pieces.append((len(places), partial(self._own_loss, inputs, targets, own)))
        return self._gradient_step(pieces, total=batch.total)

    def _own_loss(self, inputs: Any, targets: Any, weights: Tensor | None) -> Loss:
        with comes_from(type(self.options).network):
            return self._loss(inputs, targets, weights)

    def _loss(self, inputs: Any, targets: Any, weights: Tensor | None) -> Loss:
        if self.options.says("objective"):
            return self.options.objective(self._forward, (inputs, targets), self.augmentation)
        found = self.losses(inputs, targets)
        if isinstance(found, tuple):
            values, counts = found
            if weights is not None or self._penalties:
                raise ValueError("losses with counts cannot be used with parts that weigh examples or penalise")
            return values.sum(dtype=wide(values)), counts.sum(dtype=wide(counts))
        if found.ndim != 1:
            with comes_from(type(self.options).losses):
                raise ValueError(f"losses must return one number for each example, got the shape {tuple(found.shape)}")
        loss = (found if weights is None else found * weights).mean(dtype=wide(found))
        for penalty in self._penalties:
            added = penalty(found)
            if added is not None:
                loss = loss + added
        return loss

    def _call(self, inputs: Any) -> Any:
        return self.options.forward(self.model, inputs)

    # --- an evaluation

    def _measured(
        self, examples: Examples, scores: bool = True, each: list[tuple[Tensor, Tensor] | None] | None = None
    ) -> dict[str, float]:
        """Return the means over all processes' examples; each passes its share through the model.

        Args:
            examples: which.
            scores: whether to ask for what is measured on a whole split.
            each: takes the headline of each example of this process, batch by batch.
        """
        model = self.acts.through("evaluated", self.model)
        forward = self._forward if model is self.model else partial(self.options.forward, model)
        batches = evaluation_batches(
            examples,
            self.options.evaluation_batch,
            rank=self.run.rank,
            processes=self.run.processes,
            device=self.run.device,
            workers=self.options.loader_workers,
            key=self.run.streams.key("read"),
        )
        sums: dict[str, Tensor] = {}
        whole: list[tuple[Any, Any]] = []
        wants_scores = scores and self.options.says("scores")
        for inputs, targets in batches:
            with self.accelerator.autocast():
                outputs = forward(self.prepared_inputs(inputs))
            outputs, targets = _as_dtype((outputs, targets), self.dtype)
            for name, (total, count) in self.options.summed(outputs, targets).items():
                pair = torch.stack([total.double(), torch.as_tensor(count, device=total.device).double()])
                sums[name] = sums[name] + pair if name in sums else pair
            if each is not None:
                each.append(self._headline_by_example(outputs, targets))
            if wants_scores:
                whole.append((outputs, targets))
        names = sorted(self._names(sums))
        empty = torch.zeros(2, dtype=torch.float64, device=self.run.device)
        table = torch.stack([sums.get(name, empty) for name in names])
        table = self.accelerator.reduce(table, reduction="sum")
        pairs = zip(names, table.tolist(), strict=True)
        found = {name: total / count if count else math.nan for name, (total, count) in pairs}
        found["examples"] = float(len(examples))
        if wants_scores:
            found |= {name: float(value) for name, value in self.options.scores(*self._gathered(whole)).items()}
        return found

    def _headline_by_example(self, outputs: Any, targets: Any) -> tuple[Tensor, Tensor] | None:
        name = self.headline.name
        values = (
            self.options.losses(outputs, targets)
            if name == "loss"
            else self.options.metrics(outputs, targets).get(name)
        )
        return None if values is None else by_example(values, length(targets))

    def _names(self, sums: Mapping[str, Tensor]) -> set[str]:
        """Return the names of all processes' sums: one may have no example."""
        if self.run.processes == 1:
            return set(sums)
        from accelerate.utils import gather_object

        return set(gather_object(list(sums)))

    def _gathered(self, whole: list[tuple[Any, Any]]) -> tuple[Any, Any]:
        """Return outputs and targets of a whole split, in its order."""
        joined = [tree_map(lambda *parts: torch.cat(parts), *whole)] if whole else []
        if self.run.processes == 1:
            return cast("tuple[Any, Any]", joined[0])
        from accelerate.utils import gather_object

        shares = gather_object(tree_map(lambda t: t.cpu(), joined))  # none of a process without an example
        return cast("tuple[Any, Any]", tree_map(lambda *parts: _interleaved(parts), *shares))

    # --- what it is made of

    def _examples(self, splits: Mapping[str, Any]) -> tuple[Examples, dict[str, Examples]]:
        for name in ("train", "validation", "test"):
            if name not in splits:
                raise ValueError(f"splits must return train, validation and test, got {', '.join(splits)}")
        made = {name: self._made(split) for name, split in splits.items()}
        for name, examples in made.items():
            if examples.dataset is None:
                length((examples.inputs, examples.targets))
            if not len(examples):
                raise ValueError(f"splits must return at least one example for {name}, got none")
        if self.options.resplit:
            again = _redrawn(made["train"], made["validation"], self.run.generator("resplit"))
            made["train"], made["validation"] = again
        if self.options.loader_workers and all(examples.dataset is None for examples in made.values()):
            workers = self.options.loader_workers
            raise ValueError(f"loader_workers cannot be used with examples in memory, got {workers}")
        held_out = {name: made[name].on(self.run.device) for name in ("validation", "test")}
        return made["train"], held_out

    def _made(self, split: Any) -> Examples:
        if isinstance(split, Examples):
            return split
        if isinstance(split, (tuple, list)) and len(split) == 2:
            return Examples(inputs=split[0], targets=split[1])
        if isinstance(split, torch.utils.data.TensorDataset) and len(split.tensors) == 2:
            return Examples(inputs=split.tensors[0], targets=split.tensors[1])
        if hasattr(split, "__getitem__") and hasattr(split, "__len__"):
            return Examples(dataset=split, collate=self.options.collate)
        raise ValueError(f"a split must be (inputs, targets) or a map-style data set, got {type(split).__name__}")

    def _in_rounds(self) -> Order:
        options = self.options
        sampler = whole_rounds(len(self.train), options.batch_size, self.run.streams, self.accelerator)
        steps = options.total_steps(len(self.train))
        return Order(sampler, endless(sampler), steps, steps)

    def _batches(self, order: Order) -> Batches:
        options = self.options
        indices = self.sizes.batches if self.sizes else partial(order.batches, options.batch_size)
        return Batches(
            self.train,
            self.sizes.sampler if self.sizes else order.sampler,
            indices,
            processes=self.run.processes,
            device=self.run.device,
            workers=options.loader_workers,
            key=self.run.streams.key("read"),
        )

    def _budget(self, order: Order) -> Budget:
        if self.sizes is not None:
            return Budget(self.sizes.examples, "examples")
        stop_at = self.options.stop_at
        return Budget(order.steps if stop_at is None else min(order.steps, stop_at), "steps")


def _drawn(train: Examples, size: int | None, streams: Streams) -> Examples:
    """Return ``size`` training examples, drawn anew for each seed; a smaller set is part of a larger one."""
    if size is None:
        return train
    if size > len(train):
        raise ValueError(f"train_size must be at most {len(train)}, got {size}")
    return train.take(torch.randperm(len(train), generator=streams.generator("split"))[:size])


def _redrawn(train: Examples, validation: Examples, generator: torch.Generator) -> tuple[Examples, Examples]:
    """Return as many training and validation examples as before, drawn from all of them."""
    everything = train.joined(validation)
    order = torch.randperm(len(everything), generator=generator)
    return everything.take(order[: len(train)]), everything.take(order[len(train) :])


def _headline(examples: Examples) -> Headline:
    """Return accuracy where the targets are classes, else the loss."""
    return Headline("accuracy", "max") if has_classes(examples) else Headline("loss", "min")


def _as_dtype(tree: Any, dtype: torch.dtype) -> Any:
    def cast_(leaf: Any) -> Any:
        return leaf.to(dtype) if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    return cast_(tree) if isinstance(tree, Tensor) else tree_map(cast_, tree)


def _interleaved(parts: tuple[Tensor, ...]) -> Tensor:
    """Put every process's share of a split, each ``len(parts)``-th example, back in order."""
    whole = parts[0].new_empty((sum(map(len, parts)), *parts[0].shape[1:]))
    for rank, part in enumerate(parts):
        whole[rank :: len(parts)] = part
    return whole
