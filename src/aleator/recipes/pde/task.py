"""The task behind the recipe ``pde``: points and dimensions drawn anew for every step, a residual, a known solution.

Every number that a step draws is a function of the run's seed and of the step: keys ``points``, ``dimensions`` and
``conditions``. The points of a step are cut into as many shares as there are samples of dimensions; a process has whole
shares. Held-out points are the same for every seed. Stream ``init`` for the weights.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from aleator.experiment import Budget, Exhibit, GradientStep, Headline, Split, StepResult
from aleator.experiment.model_state import load_training_state, training_state
from aleator.gradients import SDGD, Exact, Hutchinson, WithDerivatives
from aleator.pde import figures, mlp
from aleator.pde.derivatives import fields, whole_lap
from aleator.pde.equation import probe_once
from aleator.pde.loss import Drawn, Estimator, draw, drawn_loss, with_other
from aleator.random import Streams
from aleator.recipes.parts.acts import Acts, once
from aleator.recipes.parts.optimizers import make_optimizer, make_schedule
from aleator.recipes.parts.run import Run
from aleator.recipes.pde import exhibits
from aleator.recipes.pde.problems import problem_of

if TYPE_CHECKING:
    from aleator.recipes.pde.options import Pde


class Share(NamedTuple):
    """Points with one sample of dimensions.

    Attributes:
        x: points.
        drawn: what has the gradient, and what weighs.
        of_conditions: points of each soft condition.
    """

    x: Tensor
    drawn: Drawn
    of_conditions: list[dict[str, Tensor]]


class PdeTask:
    """A network that learns a solution; see `aleator.experiment.Task`."""

    headline = Headline("error", "min")

    def __init__(self, options: Pde, streams: Streams, accelerator: Accelerator) -> None:
        self.options, self.accelerator = options, accelerator
        self.run = Run(options, streams, accelerator)
        self.acts = Acts(self.run)
        self.problem = problem_of(options, streams.seed)
        self.estimator = _estimator(options)
        processes = accelerator.num_processes
        self.sets = options.dimension_sets or processes
        if self.sets % processes:
            raise ValueError(f"dimension_sets must be a multiple of the {processes} processes, got {self.sets}")
        if options.points % self.sets:
            raise ValueError(
                f"points must be a multiple of the {self.sets} samples of dimensions, got {options.points}"
            )
        steps = options.steps if options.model == "pinn" else 1
        self.budget = Budget(steps, "steps")
        self.evaluate_every = max(1, steps // 10)
        self.keys = {name: streams.key(name) for name in ("points", "dimensions", "conditions")}
        self.step = 0
        self.curve: list[tuple[int, float]] = []
        self.busy = (0, 0.0)  # steps of this process and their seconds; no part of the state, which knows no clock

        self.dtype = torch.float64 if options.precision == "float64" else torch.float32
        equation, domain = self.problem.equation, self.problem.domain
        network = mlp(domain.coordinates, 1, options.width, options.layers)
        self.derived = WithDerivatives(self.problem.ansatz(self.acts.wrapped(network)), time=equation.has_time).to(
            accelerator.device, self.dtype
        )
        self.model: nn.Module = accelerator.prepare_model(self.derived)
        self.optimizer = self.acts.through("optimized", make_optimizer(self.model, options, steps, self.acts.lr_ratio))
        self.schedule = make_schedule(self.optimizer, options, steps)
        self.gradient_step = GradientStep(
            accelerator, self.model, self.optimizer, schedule=self.schedule, max_grad_norm=options.max_grad_norm
        )
        probe_once(equation, domain.d, domain.sample(8, Streams(0).generator("probe")).to(accelerator.device))
        once(self.acts.of("started"), self)
        self._after_step = self.acts.of("after_step")

    # --- the run loop's names

    def train_batches(self) -> Iterator[list[Share]]:
        """Yield this process's shares of the points of every step."""
        step = self.step
        while True:
            yield self._drawn(step)
            step += 1

    def train_step(self, batch: list[Share]) -> StepResult:
        """Take one step."""
        begun = time.perf_counter()
        self.step += 1
        if self.options.model == "trivial":
            return StepResult({}, examples=0)
        self.model.train()
        lr = torch.tensor(self.optimizer.param_groups[0]["lr"])
        pieces: list[tuple[int, Any]] = []
        for share in batch:
            pieces += self._blocks(share) if self.options.blocks else self._pieces(share)
        report = self.gradient_step(pieces)
        once(self._after_step, report)
        self.busy = self.busy[0] + 1, self.busy[1] + time.perf_counter() - begun
        metrics = {"loss": report.loss, "lr": lr}
        if report.gradient_norm is not None:
            metrics["gradient_norm"] = report.gradient_norm
        return StepResult(metrics, examples=self.options.points, skipped=report.skipped)

    def evaluate(self, split: Split) -> dict[str, float]:
        """Return the relative error at held-out points, and that of the trivial predictor at the same ones.

        With the test also ``kept_mib``: what the residuals of a step keep for the backward pass, all points at once.
        """
        points = self.options.held_out if split == "test" else max(1, self.options.held_out // 5)
        generator = Streams(0).generator("pde", split)
        self.derived.eval()
        found = figures(self.problem, self._predict, points, generator, self.accelerator.device)
        self.derived.train()
        error = found.trivial_l2 if self.options.model == "trivial" else found.relative_l2
        metrics = {"error": error, "error_l1": found.relative_l1, "trivial_error": found.trivial_l2}
        metrics |= {"factor": found.trivial_l2 / error if error else 1.0, "points": float(found.points)}
        if self.options.model == "trivial":
            del metrics["error_l1"]
        elif split == "test":
            metrics["kept_mib"] = self._kept() / 2**20
        else:
            self.curve.append((self.step, error))
        return metrics

    def exhibits(self) -> Sequence[Exhibit]:
        """Return the solution along lines next to the exact one, and the error against steps and time."""
        if self.options.model == "trivial":
            return []
        generator = Streams(0).generator("pde", "validation")
        found = figures(
            self.problem, self._predict, max(1, self.options.held_out // 5), generator, self.accelerator.device
        )
        drawn = exhibits.slices(self.problem, self._predict, self.accelerator.device)
        steps, seconds = self.busy
        pace = seconds / steps if steps else None
        return [*drawn, *exhibits.errors(self.curve, pace, found.trivial_l2, self.problem.trivial_name)]

    def saved_models(self) -> dict[str, nn.Module]:
        """Return further models that the run loop saves beside the last weights."""
        return self.acts.merged("saved")

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule, the step, and the errors so far."""
        return {
            **training_state(self.model, self.optimizer),
            "schedule": self.schedule.state_dict(),
            "step": self.step,
            "curve": [list(row) for row in self.curve],
            "parts": self.acts.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        load_training_state(self.model, self.optimizer, state)
        self.schedule.load_state_dict(state["schedule"])
        self.acts.load_state_dict(state["parts"])
        self.step, self.curve = state["step"], [(step, error) for step, error in state["curve"]]

    # --- a step

    def _drawn(self, step: int) -> list[Share]:
        """Draw the points and dimensions of a step, and return this process's shares."""
        if self.options.model == "trivial":
            return []
        device, processes = self.accelerator.device, self.accelerator.num_processes
        x = self.problem.sample(self.options.points, self._generator("points", step), self.dtype)
        conditions = self.problem.conditions
        places = [
            condition.draw(
                self.problem.domain, self.options.points, self._generator("conditions", step, index), self.dtype
            )
            for index, condition in enumerate(conditions)
        ]
        shares = []
        for index in range(self.accelerator.process_index, self.sets, processes):
            own = slice(index, None, self.sets)
            seen = x[own].to(device)
            drawn = draw(self.problem.equation, seen, None, self.estimator, self._generator("dimensions", step, index))
            of_conditions = [{name: value[own].to(device) for name, value in place.items()} for place in places]
            shares.append(Share(seen, drawn, of_conditions))
        return shares

    def _generator(self, name: str, *path: int) -> torch.Generator:
        return Streams(self.keys[name]).generator(name, *path, device=self.accelerator.device)

    def _pieces(self, share: Share) -> list[tuple[int, Any]]:
        """Return the pieces of a share of points, with the loss of each."""
        pieces = self.options.accumulate
        cut = [
            (
                share.x[i::pieces],
                share.drawn,
                [{name: value[i::pieces] for name, value in own.items()} for own in share.of_conditions],
            )
            for i in range(pieces)
        ]
        return [(len(piece[0]), partial(self._loss, *piece)) for piece in cut]

    def _loss(self, x: Tensor, drawn: Drawn, of_conditions: list[dict[str, Tensor]]) -> Tensor:
        loss, _ = drawn_loss(self.problem.equation, self.model, x, *drawn)
        return loss + self._missed(of_conditions)

    def _missed(self, of_conditions: list[dict[str, Tensor]]) -> Tensor | float:
        return sum(
            condition.loss(self.model, own)
            for condition, own in zip(self.problem.conditions, of_conditions, strict=True)
        )

    def _blocks(self, share: Share) -> list[tuple[int, Any]]:
        """Return blocks of dimensions, each of which counts as many as it has: together they are all dimensions.

        With r the residual of all of them, Σ_b (|J_b|/d) ∇ mean 2 r · r^{J_b} = ∇ mean r².
        """
        assert self.options.blocks is not None
        parts = torch.arange(self.problem.d, device=share.x.device).tensor_split(self.options.blocks)
        # Of the weights as they are before the first of the blocks' passes; no step is taken between them.
        whole = partial(whole_lap, self.derived, self.problem.equation, share.x)
        shared: dict[str, Tensor] = {}

        def loss_of(part: Tensor) -> Tensor:
            if "lap" not in shared:
                shared["lap"] = whole()
            values = fields(self.model, self.problem.equation, share.x, part)
            r, weighing = with_other(self.problem.equation, values, shared["lap"])
            assert weighing is not None
            product = weighing * r
            # Mean r² with every block: values are averaged like gradients.
            loss = (2 * product - 2 * product.detach() + weighing.square()).mean()
            return loss + self._missed(share.of_conditions)

        return [(len(part), partial(loss_of, part)) for part in parts]

    # --- aside from a step

    def _predict(self, x: Tensor) -> Tensor:
        inside: Any = self.acts.through("evaluated", self.derived)
        found: Tensor = inside.net(x.to(self.dtype))
        return found

    def _kept(self) -> int:
        """Return the bytes that the graph of the residuals of a step keeps, parameters apart, all points at once."""
        weights = {parameter.untyped_storage().data_ptr() for parameter in self.derived.parameters()}
        kept: dict[int, int] = {}

        def pack(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in weights:
                kept[storage.data_ptr()] = storage.nbytes()
            held.append(tensor)
            return tensor

        held: list[Tensor] = []  # so that no storage is given to another tensor meanwhile
        equation = self.problem.equation
        x = self.problem.sample(self.options.points, self._generator("points", self.step), self.dtype)
        drawn = draw(equation, x, None, self.estimator, self._generator("dimensions", self.step, 0))
        with torch.enable_grad(), saved_tensors_hooks(pack, lambda tensor: tensor):
            if self.options.blocks:
                block = torch.arange(self.problem.d, device=x.device).tensor_split(self.options.blocks)[0]
                r = equation(**fields(self.derived, equation, x, block))
                r.square().mean()
            else:
                drawn_loss(equation, self.derived, x, *drawn)
        return sum(kept.values())


def _estimator(options: Pde) -> Estimator:
    if options.estimator == "exact":
        return Exact()
    algorithm = options.algorithm or 2
    if options.estimator == "hutchinson":
        return Hutchinson(options.sample, unbiased=algorithm == 2)
    return SDGD(options.sample, unbiased=algorithm != 3, weight_batch="all" if algorithm == 1 else None)
