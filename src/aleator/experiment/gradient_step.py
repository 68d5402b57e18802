"""One optimizer step, done right.

    step(losses):  g = Σ_i (n_i / n) ∇ mean loss_i     over the micro-batches i of all processes, n = Σ n_i
                   finite?  transform g  clip  optimizer.step  schedule.step

Accumulated micro-batches are weighted by their true sample counts, so that a batch cut into pieces gives the gradient
of the whole batch also when the pieces are unequal. Gradients are synchronised once, at the last piece. Whether the
loss is finite is decided on all processes alike, before the optimizer steps: weights never take a step that was not a
number.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _NormBase
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aleator.experiment.agreement import Agreement
from aleator.experiment.model_state import is_sharded


@dataclass(frozen=True)
class GradientReport:
    """What a gradient step did.

    Attributes:
        loss: 0-d tensor; its mean over the processes is the mean loss per example of the whole batch.
        gradient_norm: 0-d tensor, the norm before clipping; None without clipping.
        skipped: whether the loss was not finite and no step was taken.
    """

    loss: Tensor
    gradient_norm: Tensor | None
    skipped: bool


class GradientStep:
    """Backward passes over micro-batches, then one step of an optimizer and of its schedule.

    Args:
        accelerator: of the run.
        model: as it is called in training: prepared by ``accelerator.prepare_model``, or sharded by ``fully_shard``.
        optimizer: any torch optimizer, not prepared.
        schedule: stepped after every optimizer step that was taken.
        max_grad_norm: gradients are scaled down to this total 2-norm; None leaves them alone.
        before_clip: called in turn once the gradients of the whole batch are there, to put others in their place: on
            all processes, in every step, also one that is then skipped. Under a gradient scaler they are still scaled.

    Raises:
        ValueError: if ``max_grad_norm`` is not positive.

    Example:
        >>> step = GradientStep(accelerator, model, optimizer)
        >>> report = step([(len(y), lambda: loss_fn(model(x), y))])
    """

    def __init__(
        self,
        accelerator: Accelerator,
        model: nn.Module,
        optimizer: Optimizer,
        *,
        schedule: LRScheduler | None = None,
        max_grad_norm: float | None = None,
        before_clip: Sequence[Callable[[], object]] = (),
    ) -> None:
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive, got {max_grad_norm}")
        self._accelerator = accelerator
        self._model = model
        self._optimizer = optimizer
        self._schedule = schedule
        self._max_grad_norm = max_grad_norm
        self._before_clip = before_clip
        self._agreement = Agreement(accelerator.num_processes)
        self._sharded = is_sharded(model)
        # Batch normalisation learns in the forward pass; a step that is skipped must not have taught it anything.
        norms = [m for m in model.modules() if isinstance(m, _NormBase)]
        self._statistics = [buffer for norm in norms for buffer in norm.buffers()]

    def __call__(
        self, losses: Sequence[tuple[int, Callable[[], Tensor]]], *, total: int | None = None
    ) -> GradientReport:
        """Take one step.

        Reads one number back from the device: whether the loss is finite has to be known before the optimizer steps.

        Args:
            losses: for each micro-batch of this process, how many examples it has and a function for its mean loss.
            total: examples over all micro-batches and processes, where that is known; else it is counted.

        Raises:
            ValueError: if there is no micro-batch or one is empty.
        """
        if not losses or any(count < 1 for count, _ in losses):
            raise ValueError(f"every micro-batch needs at least one example, got {[count for count, _ in losses]}")
        if total is None:
            total = self._agreement.total(sum(count for count, _ in losses))
        statistics = [buffer.clone() for buffer in self._statistics]
        shares = []
        for index, (count, loss_of) in enumerate(losses):
            with self._synchronised(index == len(losses) - 1):
                with self._accelerator.autocast():
                    loss = loss_of()
                # DDP and FSDP average over processes; times their number, that is a sum.
                share = loss * (count * self._accelerator.num_processes / total)
                self._accelerator.backward(share)
            shares.append(share.detach())
        for transform in self._before_clip:
            transform()
        mean_loss = torch.stack(shares).sum() if len(shares) > 1 else shares[0]
        return self._apply(mean_loss, statistics)

    def _apply(self, loss: Tensor, statistics: list[Tensor]) -> GradientReport:
        scaler = self._accelerator.scaler
        norm = None
        sound = self._everywhere(torch.isfinite(loss))
        if sound and self._max_grad_norm is not None:
            if scaler is not None:
                scaler.unscale_(self._optimizer)
            norm = nn.utils.clip_grad_norm_(self._model.parameters(), self._max_grad_norm)
            if isinstance(norm, DTensor):
                norm = norm.full_tensor()
            if scaler is None:  # a scaler looks for overflowed gradients itself and lowers its scale
                sound = self._everywhere(torch.isfinite(norm))
        if sound:
            self._step(scaler)
        else:
            for buffer, before in zip(self._statistics, statistics, strict=True):
                buffer.copy_(before)
        self._optimizer.zero_grad(set_to_none=True)
        return GradientReport(loss, norm, not sound)

    def _everywhere(self, sound: Tensor) -> bool:
        return not self._agreement.maximum(int(not sound))

    def _step(self, scaler: torch.amp.GradScaler | None) -> None:
        if scaler is None:
            self._optimizer.step()
        else:
            before = scaler.get_scale()
            scaler.step(self._optimizer)
            scaler.update()
            if (
                scaler.get_scale() < before
            ):  # gradients overflowed: the scaler took no step, so neither does the schedule
                return
        if self._schedule is not None:
            self._schedule.step()

    @contextlib.contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        if self._sharded:
            sharded: Any = self._model
            sharded.set_requires_gradient_sync(last)
            yield
        elif last:
            yield
        else:
            with self._accelerator.no_sync(self._model):
                yield
