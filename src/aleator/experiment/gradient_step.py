"""One optimizer step, done right.

    step(losses):  g = Σ_i (n_i / n) ∇ mean loss_i     over the micro-batches i of all processes, n = Σ n_i
                   observe g   transform g   finite?   clip g   optimizer.step   schedule.step

Accumulated micro-batches are weighted by their true sample counts, so that a batch cut into pieces gives the gradient
of the whole batch also when the pieces are unequal. Gradients are synchronised once, at the last piece. Whether the
loss is finite is decided on all processes alike, before the optimizer steps: weights never take a step that was not a
number.

The step is open in four places. After each piece, somebody may look at the gradients of the pieces so far, on this
process alone. Once the gradient of the whole batch is there, somebody may read it, and then somebody may put another in
its place. The schedule may be one that counts examples.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn
from torch.distributed.tensor import DTensor
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aleator.experiment.agreement import Agreement
from aleator.experiment.model_state import is_sharded

Loss = Tensor | tuple[Tensor, Tensor]


@runtime_checkable
class ExampleSchedule(Protocol):
    """A schedule that moves by the examples of a batch instead of by steps."""

    def advance(self, examples: int) -> None:
        """Move on by the examples of a batch that a step was taken on."""
        ...


@dataclass(frozen=True)
class GradientReport:
    """What a gradient step did.

    Attributes:
        loss: 0-d tensor; its mean over the processes is the mean loss per example of the whole batch.
        gradient_norm: 0-d tensor, the norm before clipping; None without clipping.
        skipped: whether the loss was not finite and no step was taken.
        stepped: whether the optimizer took a step: not where the batch was skipped, and not where a gradient scaler
            found that gradients overflowed.
    """

    loss: Tensor
    gradient_norm: Tensor | None
    skipped: bool
    stepped: bool = True


class GradientStep:
    """Backward passes over micro-batches, then one step of an optimizer and of its schedule.

    Args:
        accelerator: of the run.
        model: as it is called in training: prepared by ``accelerator.prepare_model``, or sharded by ``fully_shard``.
        optimizer: any torch optimizer, not prepared.
        schedule: stepped after every optimizer step that was taken; an `ExampleSchedule` hears how many examples the
            batch had.
        max_grad_norm: gradients are scaled down to this total 2-norm; None leaves them alone.
        after_piece: called in turn after the backward pass of each micro-batch with its number of examples. ``.grad``
            is then the gradient of this process's pieces so far, each weighted by its share of the batch of all
            processes and times the number of processes, before anything was reduced.
        observe: called in turn once the gradients of the whole batch are there, reduced and unscaled; they only read.
        transform: called in turn after that, to put other gradients in the place of those: on all processes, in every
            step, also one that is then skipped. Under a gradient scaler they are still scaled, unless somebody
            observes.

    Raises:
        ValueError: if ``max_grad_norm`` is not positive, or ``after_piece`` meets a sharded model or a gradient scaler.

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
        schedule: LRScheduler | ExampleSchedule | None = None,
        max_grad_norm: float | None = None,
        after_piece: Sequence[Callable[[int], object]] = (),
        observe: Sequence[Callable[[], object]] = (),
        transform: Sequence[Callable[[], object]] = (),
    ) -> None:
        if max_grad_norm is not None and not max_grad_norm > 0:
            raise ValueError(f"max_grad_norm must be positive, got {max_grad_norm}")
        self._accelerator = accelerator
        self._model = model
        self._optimizer = optimizer
        self._schedule = schedule
        self._max_grad_norm = max_grad_norm
        self._after_piece, self._observe, self._transform = after_piece, observe, transform
        self._agreement = Agreement(accelerator.num_processes)
        self._sharded = is_sharded(model)
        if after_piece and self._sharded:
            raise ValueError("after_piece cannot be used with a sharded model, whose gradients are never local")
        if after_piece and accelerator.scaler is not None:
            raise ValueError("after_piece cannot be used with a gradient scaler, whose gradients are not unscaled yet")
        # Batch normalisation learns in the forward pass; a step that is skipped must not have taught it anything.
        norms = [m for m in model.modules() if isinstance(m, _NormBase)]
        self._statistics = [buffer for norm in norms for buffer in norm.buffers()]

    def __call__(self, losses: Sequence[tuple[int, Callable[[], Loss]]], *, total: int | None = None) -> GradientReport:
        """Take one step.

        Reads one number back from the device: whether the loss is finite has to be known before the optimizer steps.

        Args:
            losses: for each micro-batch of this process, how many examples it has and a function for its mean loss. Or
                for the sum of the losses of its parts and a 0-d tensor that counts them, such as the tokens of padded
                sequences: the gradient is then the gradient of the mean over the parts of all pieces and processes.
            total: examples over all micro-batches and processes, where that is known; else it is counted.

        Raises:
            ValueError: if there is no micro-batch or one is empty.
        """
        if not losses or any(count < 1 for count, _ in losses):
            raise ValueError(f"every micro-batch needs at least one example, got {[count for count, _ in losses]}")
        if total is None:
            total = self._agreement.total(sum(count for count, _ in losses))
        self._optimizer.zero_grad(set_to_none=True)  # what somebody else's training left is none of this batch's
        statistics = [buffer.clone() for buffer in self._statistics]
        processes = self._accelerator.num_processes
        shares, parts = [], []
        for index, (count, loss_of) in enumerate(losses):
            with self._synchronised(index == len(losses) - 1 and not self._after_piece):
                with self._accelerator.autocast():
                    loss = loss_of()
                if isinstance(loss, tuple):
                    loss, counted = loss[0] / count, loss[1]
                    parts.append(counted.detach())
                # DDP and FSDP average over processes; times their number, that is a sum.
                share = loss * (count * processes / total)
                self._accelerator.backward(share)
            shares.append(share.detach())
            for look in self._after_piece:
                look(count)
        if self._after_piece and processes > 1:
            self._reduce()
        mean_loss = torch.stack(shares).sum() if len(shares) > 1 else shares[0]
        if parts:
            mean_loss = self._divide(mean_loss, parts, total)
        unscaled = False
        if self._observe:
            if self._accelerator.scaler is not None:
                self._accelerator.scaler.unscale_(self._optimizer)
                unscaled = True
            for read in self._observe:
                read()
        for transform in self._transform:
            transform()
        return self._apply(mean_loss, statistics, total, unscaled)

    def _divide(self, mean_loss: Tensor, parts: list[Tensor], total: int) -> Tensor:
        """Turn a mean over examples into one over their parts, in the gradients too."""
        counted: Tensor = self._accelerator.reduce(torch.stack(parts).sum().double(), reduction="sum")
        factor = total / counted
        gradients = [p.grad for p in self._model.parameters() if p.grad is not None]
        for gradient in gradients:
            gradient.mul_(factor.to(gradient.dtype))
        return mean_loss * factor.to(mean_loss.dtype)

    def _reduce(self) -> None:
        """Average gradients over the processes, as DDP does inside the last backward pass when nobody looks before."""
        trained = [p for p in self._model.parameters() if p.requires_grad]
        held = torch.tensor([float(p.grad is not None) for p in trained], device=self._accelerator.device)
        dist.all_reduce(held, op=dist.ReduceOp.MAX)
        for parameter, somewhere in zip(trained, held.tolist(), strict=True):
            if somewhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                parameter.grad.div_(self._accelerator.num_processes)
                dist.all_reduce(parameter.grad)
        if isinstance(self._model, DistributedDataParallel):  # after no_sync it would leave buffers as they are
            self._model.require_forward_param_sync = True

    def _apply(self, loss: Tensor, statistics: list[Tensor], total: int, unscaled: bool) -> GradientReport:
        scaler = self._accelerator.scaler
        norm = None
        stepped = False
        sound = self._everywhere(torch.isfinite(loss))
        if sound and self._max_grad_norm is not None:
            if scaler is not None and not unscaled:
                scaler.unscale_(self._optimizer)
            norm = nn.utils.clip_grad_norm_(self._model.parameters(), self._max_grad_norm)
            if isinstance(norm, DTensor):
                norm = norm.full_tensor()
            if scaler is None:  # a scaler looks for overflowed gradients itself and lowers its scale
                sound = self._everywhere(torch.isfinite(norm))
        if sound:
            stepped = self._step(scaler, total)
        else:
            if unscaled and scaler is not None:
                scaler.update()  # forget that gradients were unscaled: the next batch has others
            for buffer, before in zip(self._statistics, statistics, strict=True):
                buffer.copy_(before)
        self._optimizer.zero_grad(set_to_none=True)
        return GradientReport(loss, norm, not sound, stepped)

    def _everywhere(self, sound: Tensor) -> bool:
        return not self._agreement.maximum(int(not sound))

    def _step(self, scaler: torch.amp.GradScaler | None, total: int) -> bool:
        """Step, and return whether a step was taken: not where a scaler found that gradients overflowed."""
        if scaler is None:
            self._optimizer.step()
        else:
            before = scaler.get_scale()
            scaler.step(self._optimizer)
            scaler.update()
            if scaler.get_scale() < before:
                return False
        if isinstance(self._schedule, ExampleSchedule):
            self._schedule.advance(total)
        elif self._schedule is not None:
            self._schedule.step()
        return True

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
