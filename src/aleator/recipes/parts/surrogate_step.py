"""A step of a recipe that descends on target surrogates: what `aleator.experiment.GradientStep` is for plain losses.

The loss of a batch is asked for its gradient in the targets once; the recipe's own optimizer then takes its steps on
the surrogate. Whether the loss is finite is decided on all processes alike, before any of them; a batch on which the
surrogate's gradient was not is reported as skipped, too. The schedule moves once a batch that was used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aleator.experiment.agreement import Agreement
from aleator.experiment.gradient_step import GradientReport
from aleator.optim import NotFiniteTargetGradient, TargetSurrogate

_COUNTS = ("target_gradient_calls", "total_inner_steps")


class SurrogateGradientStep:
    """Inner steps on the surrogate of a batch, then one step of the schedule.

    Args:
        accelerator: of the run.
        model: as it is called in training. Its dropout and normalisation see one batch once.
        optimizer: takes the inner steps and keeps its state from batch to batch.
        schedule: stepped after every batch that was used.
        step_size: γ.
        inner_steps: on every surrogate.
        before_step: called in turn before every inner step, to put other gradients in the place of those that are
            there: on all processes.
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: Optimizer,
        schedule: LRScheduler,
        step_size: float,
        inner_steps: int,
        before_step: Sequence[Callable[[], object]] = (),
    ) -> None:
        processes = accelerator.num_processes
        self._before_step = before_step
        optimizer.register_step_pre_hook(lambda *_: self._transform())
        self._agreement = Agreement(processes)
        self._optimizer, self._schedule = optimizer, schedule
        self._surrogate = TargetSurrogate(
            model,
            step_size,
            inner=lambda _: optimizer,
            inner_steps=inner_steps,
            reset_inner=False,
            freeze_stochastic=True,
            process_group=torch.distributed.group.WORLD if processes > 1 else None,
        )

    def __call__(self, inputs: Tensor, losses: Callable[[Tensor], Tensor]) -> tuple[GradientReport, dict[str, Tensor]]:
        """Learn from this process's part of a batch; return what was done and how many inner steps there were.

        Args:
            inputs: of the model.
            losses: the loss of each example as a function of the outputs.
        """

        def oracle(targets: Tensor) -> Tensor:
            found = losses(targets)
            if self._agreement.maximum(int(not found.isfinite().all())):
                raise _NotFiniteError
            return found

        try:
            done = self._surrogate.step(inputs, oracle)
        except (_NotFiniteError, NotFiniteTargetGradient):  # statistics of the normalisation are as before
            return GradientReport(torch.tensor(torch.nan), None, skipped=True, stepped=False), {}
        finally:
            self._optimizer.zero_grad(set_to_none=True)
        if done.stopped is not None:  # what a last backward pass without a step has left is not the next batch's
            self._transform()
        if not done.finite:
            return GradientReport(done.loss, None, skipped=True, stepped=done.inner_steps > 0), {}
        self._schedule.step()
        counted = torch.tensor(float(done.inner_steps), dtype=torch.float64)
        return GradientReport(done.loss, None, skipped=False), {"inner_steps": counted}

    def counts(self) -> dict[str, float]:
        """Return the target gradients and the inner steps since the beginning."""
        return {name: float(getattr(self._surrogate, name)) for name in _COUNTS}

    def set_counts(self, counts: Mapping[str, float]) -> None:
        """Continue from the counts of a saved state."""
        for name in _COUNTS:
            setattr(self._surrogate, name, int(counts[name]))

    def _transform(self) -> None:
        for transform in self._before_step:
            transform()


class _NotFiniteError(Exception):
    """The loss of some process is not finite."""
