"""Batches that grow when their gradients are too noisy (AdAdaGrad's tests), in every supervised task.

A run with a test is counted in examples: it sees as many as its rounds have, whatever the batches, and its learning
rate follows them. With ``max_batch_size`` equal to ``batch_size`` nothing is ever tested and batches stay as they are,
which is the baseline in the same unit.

The test is of the batch that a step was taken on, before its gradient was clipped or changed; a new size is for the
batches drawn after it. Where data are read ahead, these come behind those already in the queue.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from aleator.recipes.parts.checks import positive, refuse_unless
from aleator.recipes.parts.part import Act, Part, Sizes
from aleator.recipes.parts.rows import OPTIMIZERS

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from aleator.data import BatchSizeController, VariableBatchSampler
    from aleator.experiment.gradient_step import ExampleSchedule, GradientReport
    from aleator.gradients import ExampleGradients, GradStats
    from aleator.recipes.parts.batch import Batch
    from aleator.recipes.parts.part import Order
    from aleator.recipes.parts.run import Run

SHARE_OF_COORDINATES = 0.9  # the largest quotient belongs to a coordinate without gradient, and says nothing


@dataclass(frozen=True)
class AdaptiveBatch(Part):
    """How many examples a batch has, where tests of its gradient decide that."""

    card: ClassVar[str] = "adadagrad"

    batch_test: Literal["none", "norm", "inner", "augmented", "coordinate"] = "none"
    """Let batches grow from batch_size when a test says that their gradient is too noisy: by the norm of the noise, by
    its part along the gradient, by that and the part across it, or, for AdaGrad, coordinate by coordinate, of which
    nine in ten have to pass. The budget is then in examples, rounds times the training data."""
    max_batch_size: int | None = None
    """The largest batch. With that of batch_size all stay as they are, and the budget is in examples all the same."""
    eta: float | None = None
    """The relative error of the gradient that a test allows, by default 0.5; half of it asks for four times the batch.
    Of inner and augmented it is ϑ; across the gradient augmented allows ν = 1."""
    batch_lr: Literal["sqrt", "linear"] | None = None
    """Multiply the learning rate by the square root of batch/batch_size, or by the quotient itself. Default: no."""

    def check(self) -> None:
        """Check what can be checked without data."""
        positive(self, "max_batch_size", "eta")
        test = self.batch_test
        if test == "none":
            refuse_unless(False, "batch_test none", self, "max_batch_size", "eta", "batch_lr")
            return
        if self.max_batch_size is None:
            raise ValueError(f"max_batch_size must be given with batch_test {test}, got None")
        batch_size = getattr(self, "batch_size", 2)
        if self.max_batch_size < batch_size or batch_size < 2:
            raise ValueError(
                f"max_batch_size must be at least batch_size, and that at least 2, "
                f"got {self.max_batch_size} and {batch_size}"
            )
        if (pieces := getattr(self, "accumulate", 1)) > 1 and (batch_size % pieces or batch_size < 4 * pieces):
            raise ValueError(f"batch_size must be a multiple of accumulate, of 4 examples or more, got {batch_size}")
        for where, name, value in self._refused():
            raise ValueError(f"batch_test cannot be used with {where or f'{name} {value}'}, got {test}")

    def _refused(self) -> list[tuple[str, str, Any]]:
        """Return what a run whose batches change cannot have, as words or as an option and its value."""

        def of(name: str, *usual: Any) -> list[tuple[str, str, Any]]:
            value = getattr(self, name, None)
            return [] if value is None or value in usual else [("", name, value)]

        found = [*of("subset", "full"), *of("stratified", False), *of("schedule_length", "own"), *of("surrogate")]
        found += [*of("stop_at"), *of("shard", False), *of("schedule", "cosine", "constant")]
        mixed: Mapping[str, Any] = getattr(self, "of_several_domains", dict)()
        found += [("", name, value) for name, value in mixed.items()]
        optimizer = getattr(self, "optimizer", "sgd")
        row, warmup = OPTIMIZERS[optimizer], getattr(self, "warmup", None)
        if "steps known" in row.needs or ("clip_schedule" in row.paced and warmup):
            found.append((f"the warm-up of {optimizer}, which is counted in steps", "", None))
        if warmup is not None and warmup >= 1:
            found.append((f"a warmup of {warmup:g} steps; give a share of the run, below 1", "", None))
        if getattr(type(self), "says", lambda _: False)("objective"):
            found.append(("an objective, which has no loss for each example", "", None))
        return found

    def arms(self) -> Sequence[Mapping[str, Any]]:
        """Return the test of the norm and the one along the gradient, with batches up to eight times as large."""
        largest = 8 * getattr(self, "batch_size", 2)
        return [{"batch_test": test, "max_batch_size": largest} for test in ("norm", "augmented")]

    def act(self, run: Run) -> Act | None:
        """Return the controller's act."""
        return None if self.batch_test == "none" else _AdaptiveBatchAct(self, run)


class _AdaptiveBatchAct(Act):
    """Says how large a batch is, tests it, and moves the learning rate by examples."""

    _task: Any
    _controller: BatchSizeController
    _schedule: Any

    def __init__(self, options: AdaptiveBatch, run: Run) -> None:
        from aleator.experiment.agreement import Agreement

        self._options, self._run = options, run
        self._positions = run.generator("batch size")  # the same on every process
        self._agreement = Agreement(run.processes)
        self._batch: Batch | None = None
        self._stats: GradStats | None = None
        self._size, self._tested = 0, False  # of the last step

    # --- once

    def sized(self, order: Order) -> Sizes:
        from aleator.data import RepeatedRandomSampler, VariableBatchSampler

        most, source = self._options.max_batch_size, order.sampler
        if not isinstance(source, RepeatedRandomSampler):
            raise ValueError(f"batch_test cannot be used with the order of {type(source).__name__}")
        if most is not None and most > source.round_size:
            raise ValueError(f"max_batch_size must be at most {source.round_size}, the training examples, got {most}")
        options = self._run.options
        whole = options.rounds * source.round_size
        examples = whole if options.steps is None else options.steps * options.batch_size
        self._examples = examples - examples % self._run.processes
        sampler: VariableBatchSampler = VariableBatchSampler(
            source, lambda: self._controller.propose().global_size, total=self._examples
        )
        return Sizes(sampler, sampler.batches, lambda count: self._controller.pieces(count), self._examples)

    def scheduled(self, optimizer: Optimizer) -> ExampleSchedule:
        from aleator.optim import SampleLR

        options = self._run.options
        own = options.peak_lr / 500 if options.own_lr_min is None else options.own_lr_min
        warmup = 0.0 if options.schedule == "constant" else options.own_warmup
        self._schedule = SampleLR(
            optimizer,
            round((warmup if options.warmup is None else options.warmup) * self._examples),
            self._examples,
            options.schedule,
            lr_min=own if options.lr_min is None else options.lr_min,
            scaling=self._options.batch_lr,
            initial=options.batch_size,
        )
        return self._schedule  # type: ignore[no-any-return]

    def started(self, task: Any) -> None:
        """Try the test on two examples, so that what cannot be tested is refused before anything is trained."""
        from aleator.data import BatchSizeController

        self._task = task
        for phase in ("weights", "penalty"):
            if task.acts.of(phase):
                raise ValueError(f"batch_test cannot be used with parts that have {phase}")
        try:
            self._look(task, *self._some(task, 2), {})
        except RuntimeError as error:  # a layer that cannot be differentiated example by example
            raise ValueError(f"batch_test cannot be used with this network: {error}") from error
        options, run = self._options, self._run
        pieces = run.options.accumulate
        of_piece = run.options.batch_size // (run.processes * pieces)
        searched = run.device.type == "cuda" and pieces == 1
        assert options.max_batch_size is not None
        assert options.batch_test != "none"
        eta = 0.5 if options.eta is None else options.eta
        self._controller = BatchSizeController(
            run.options.batch_size,
            options.max_batch_size,
            options.batch_test,
            eta,
            eta,
            world_size=run.processes,
            max_micro=of_piece if pieces > 1 else None,
            quantile=SHARE_OF_COORDINATES,
        )
        if searched:
            self._controller.max_micro = self._most_that_fit(task, self._controller)

    def _most_that_fit(self, task: Any, controller: BatchSizeController) -> int:
        """Return how many examples every process has memory for in one backward pass."""
        from aleator.data import largest_micro

        least = max(controller.propose().micro, 4)  # a batch of the first size is taken whole
        most = max(controller.maximum // self._run.processes, least)

        def attempt(count: int) -> None:
            with task.aside("batch size") as model:
                self._losses(model, self._some(task, count)).mean().backward()  # type: ignore[no-untyped-call]

        return -self._agreement.maximum(-largest_micro(attempt, least, most))

    # --- each step

    def before_step(self, batch: Batch) -> None:
        self._batch, self._size = batch, batch.total
        self._schedule.ahead(batch.total)

    def observe(self) -> None:
        batch = self._batch
        assert batch is not None
        if self._controller.due(batch.step) and batch.total >= 2:
            self._stats = self._measured(batch)

    def after_step(self, report: GradientReport) -> None:
        stats, self._stats, self._batch = self._stats, None, None
        self._tested = stats is not None and report.stepped
        if stats is not None and report.stepped:
            self._controller.observe(stats)
            self._controller.set_size(self._agreement.maximum(self._controller.propose().global_size))

    def logged(self) -> Mapping[str, Tensor]:
        """What the last step had, and what its test asked for, where there was one."""
        import math

        import torch

        needed = self._controller.required if self._tested else None
        found = {"batch_size": float(self._size)}
        if needed is not None and math.isfinite(needed):
            found["batch_size_needed"] = needed
        return {name: torch.tensor(value, dtype=torch.float64) for name, value in found.items()}

    def state_dict(self) -> dict[str, Any]:
        return {**self._controller.state_dict(), "max_micro": self._controller.max_micro}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        # Where more fits than at first, pieces stay as they were: a resumed run shall have the same sums.
        limits = [most for most in (self._controller.max_micro, state["max_micro"]) if isinstance(most, int)]
        self._controller.max_micro = min(limits, default=None)
        self._controller.load_state_dict(state)

    # --- what a batch's gradients are like

    def _measured(self, batch: Batch) -> GradStats:
        """Return the statistics of a batch from some of its examples, the same on all processes.

        Which ones is drawn over the whole batch, so that the number of processes and pieces changes nothing.
        """
        import torch

        from aleator.experiment.model_state import unwrapped
        from aleator.gradients import GradStats

        run, whole = self._run, unwrapped(self._task.model)
        # Not copied: `aside` takes the gradients off the parameters and only puts them back.
        gradient = {n: p.grad for n, p in whole.named_parameters() if p.requires_grad and p.grad is not None}
        norms = [torch.linalg.vector_norm(g, dtype=torch.float64) for g in gradient.values()]
        square = float(torch.stack(norms).square().sum()) if norms else 0.0
        chosen = torch.randperm(batch.total, generator=self._positions)[: self._controller.sample_cap]
        slots = (chosen % run.processes == run.rank).nonzero().flatten()  # a batch is dealt out one by one
        mine = chosen[slots] // run.processes
        table = torch.zeros(2, len(chosen), dtype=torch.float64, device=run.device)
        found = self._look(self._task, *_rows(batch, mine), gradient) if len(mine) else None
        if found is not None:
            table[0, slots] = found.sq_norms
            if found.inner is not None:
                table[1, slots] = found.inner
        table = self._over_processes(table)
        share = len(mine) / len(chosen)
        trained = {name: p for name, p in whole.named_parameters() if p.requires_grad}
        mean = self._over_processes(_flat(trained, None if found is None else found.mean) * share)
        coordinates = self._options.batch_test == "coordinate"
        second = (
            self._over_processes(_flat(trained, None if found is None else found.second_moment) * share)
            if coordinates
            else None
        )
        return GradStats(
            table[0].cpu(),
            table[1].cpu() if self._options.batch_test in ("inner", "augmented") else None,
            square,
            batch.total,
            second,
            _flat(trained, gradient) if coordinates else None,
            float(mean.square().sum()),
            mean if coordinates else None,
        )

    def _look(self, task: Any, inputs: Any, targets: Any, gradient: Mapping[str, Tensor]) -> ExampleGradients:
        """Return what per-example gradients are like; products are with the batch's gradient."""
        from aleator.gradients import example_gradients

        needs: dict[str, Sequence[Literal["norms", "inner", "second_moment"]]] = {
            "norm": ("norms",),
            "coordinate": ("second_moment",),
        }
        need = needs.get(self._options.batch_test, ("inner",))
        with task.aside("batch size") as model:
            return example_gradients(model, self._losses, (inputs, targets), need=need, direction=gradient or None)

    def _losses(self, model: nn.Module, examples: tuple[Any, Any]) -> Tensor:
        options = self._run.options
        found = options.losses(options.forward(model, examples[0]), examples[1])
        if isinstance(found, tuple):
            raise ValueError("batch_test cannot be used with losses that have counts")
        return found  # type: ignore[no-any-return]

    def _some(self, task: Any, count: int) -> tuple[Any, Any]:
        """Return training examples as the network gets them, the first over and over of a data set."""
        import torch

        from aleator.recipes.parts.batch import first, rows

        train = task.train
        if train.dataset is None:
            places = torch.arange(count) % len(train)
            inputs, targets = rows(train.inputs, places), rows(train.targets, places)
        else:
            inputs, targets = (rows(part, torch.zeros(count, dtype=torch.int64)) for part in first(train))
        return task.prepared_examples(inputs, targets)  # type: ignore[no-any-return]

    def _over_processes(self, tensor: Tensor) -> Tensor:
        if self._run.processes == 1:
            return tensor
        return self._run.accelerator.reduce(tensor, reduction="sum")  # type: ignore[no-any-return]


def _rows(batch: Batch, places: Tensor) -> tuple[Any, Any]:
    from aleator.recipes.parts.batch import rows

    return rows(batch.inputs, places), rows(batch.targets, places)


def _flat(trained: Mapping[str, Tensor], found: Mapping[str, Tensor] | None) -> Tensor:
    """Return one float64 vector of all parameters' numbers, zero where there are none."""
    import torch

    known = found or {}
    parts = [known.get(name, torch.zeros_like(p)).detach().double().flatten() for name, p in trained.items()]
    return torch.cat(parts)
