"""Squared gradient norms of micro-batches, seen before anything adds them up: all that the between-part trace needs.

    plain module    after a backward pass, what it added to ``.grad``
    DDP             the same under ``no_sync``; of the last micro-batch, the buckets on their way into the all-reduce
    FSDP2           what is on its way into the reduce-scatter, of every micro-batch

Of the processes one number each is exchanged, when the numbers are taken. The numbers belong to
`aleator.gradients.between_trace`.

T. Lau et al., "Adaptive Batch Size Schedules for Distributed Training of Language Models with Data and Model
Parallelism" (DDP-Norm and FSDP-Norm), CPAL 2025, arXiv 2412.21124.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from aleator.gradients.noise_trace import TraceStats


class MicroBatchNormHook:
    """Collects squared norms of micro-batch gradients while these are accumulated.

    Call `add` after the backward pass of every micro-batch, and `take` after the last. A step of several micro-batches
    holds one copy of the gradient, where they are told apart by what they add to ``.grad``; with one micro-batch on
    each process, or with FSDP2, there is none.

    Args:
        model: as it is trained. A `DistributedDataParallel` gets its communication hook here, which averages as it does
            by itself; a module of ``fully_shard``, and every one inside, a reduce-scatter, which does too.

    Raises:
        RuntimeError: if the replicated model has a communication hook already, or FSDP1 made flat slices of parameters,
            whose gradients are reduced where nobody sees them.

    Example:
        >>> model = torch.nn.Linear(3, 1)
        >>> hook = MicroBatchNormHook(model)
        >>> for x in torch.ones(4, 2, 3):  # four micro-batches of two examples
        ...     (model(x).mean() * 2 / 8).backward()
        ...     hook.add(2, share=2 / 8)
        >>> hook.take().n
        8
    """

    def __init__(self, model: nn.Module) -> None:
        self._parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self._before: dict[Tensor, Tensor] = {}
        # From a hook, of the last backward pass: one after which nobody called `add` is forgotten in the next.
        self._squares: dict[Any, Tensor] = {}
        self._found: list[tuple[int, Tensor]] = []
        self._group: Any = None
        self._reduced = False  # ``.grad`` is the mean over processes
        self._sharded = False
        if isinstance(model, DistributedDataParallel):
            self._group = model.process_group
            model.register_comm_hook(self, lambda hook, bucket: hook._all_reduce(bucket))
        elif shards := _sharded_modules(model):
            self._group, self._sharded = dist.group.WORLD, dist.get_world_size() > 1
            for module in shards:
                module.set_custom_reduce_scatter(_SeenReduceScatter(self._squares))

    @torch.no_grad()
    def add(self, count: int, share: float) -> None:
        """See the gradients after a micro-batch.

        Args:
            count: its examples, n_i, at least 1.
            share: what its mean gradient m_i was multiplied by when it was added, on this process: 1 without
                accumulation, 1/K with K equal micro-batches.

        Raises:
            ValueError: if a number is out of range.
            RuntimeError: if the gradient of the micro-batch was not to be seen: it was not reduced, with FSDP2, or was
                added to one that is a mean over processes, with DDP.
        """
        if count < 1:
            raise ValueError(f"count must be at least 1, got {count}")
        if not 0 < share < math.inf:
            raise ValueError(f"share must be positive and finite, got {share}")
        if self._squares:
            squares = list(self._squares.values())
            self._squares.clear()
            self._reduced = not self._sharded
        elif self._sharded:
            raise RuntimeError("every micro-batch of a sharded model must be reduced: set_requires_gradient_sync(True)")
        else:
            squares = [self._square(p, p.grad) for p in self._parameters if p.grad is not None]
            self._before = {p: p.grad.clone() for p in self._parameters if p.grad is not None}
        total = torch.stack([s.to(squares[0].device) for s in squares]).sum() if squares else torch.zeros(())
        self._found.append((count, total.double() / share**2))

    def take(self, mean_sq_norm: float | None = None, group: Any = None) -> TraceStats:
        """Return what was collected, over all processes that share the batch, and begin again.

        Args:
            mean_sq_norm: ‖ḡ‖² of the whole batch. Left out, it is that of ``.grad``, which then has to be the sum of
                all micro-batches' shares over all processes.
            group: of processes; None are those of the model, or this one alone where it is neither replicated nor
                sharded.

        Raises:
            ValueError: if there were fewer than 2 micro-batches.
        """
        if mean_sq_norm is None:
            mean_sq_norm = _sq_norm([p.grad for p in self._parameters if p.grad is not None])
        device = self._found[0][1].device if self._found else torch.device("cpu")
        sums = torch.zeros(3, dtype=torch.float64, device=device)
        for count, square in self._found:
            sums += torch.stack([square * count, square.new_tensor(count), square.new_tensor(1)])
        if (group := self._group if group is None else group) is not None:
            dist.all_reduce(sums, group=group)
        self._found, self._before, self._reduced = [], {}, False
        weighted, examples, parts = sums.tolist()
        if parts < 2:
            raise ValueError(f"there must be 2 micro-batches or more to see a variance between them, got {int(parts)}")
        trace = max(weighted - examples * mean_sq_norm, 0.0) if math.isfinite(weighted) else math.nan
        return TraceStats(trace / (parts - 1), mean_sq_norm, int(examples))

    def _square(self, parameter: Tensor, grad: Tensor) -> Tensor:
        before = self._before.get(parameter)
        return _square(_here(grad) if before is None else _here(grad) - _here(before))

    def _all_reduce(self, bucket: Any) -> torch.futures.Future[Tensor]:
        """Average a bucket, with the bits of DDP without a hook, and see what it holds before."""
        if self._reduced:
            raise RuntimeError(
                "take must be called between two backward passes that are reduced; run all micro-batches of a step "
                "but the last under no_sync"
            )
        with torch.no_grad():
            for parameter, grad in zip(bucket.parameters(), bucket.gradients(), strict=True):
                self._squares[parameter] = self._square(parameter, grad)
            # To divide has other bits. DDP divides gradients that are kept in buckets from step to step, if they are.
            mean = bucket.buffer().mul_(1 / dist.get_world_size(self._group))
        sent = dist.all_reduce(mean, group=self._group, async_op=True).get_future()
        mean_later: torch.futures.Future[Tensor] = sent.then(lambda done: done.value()[0])
        return mean_later


class _SeenReduceScatter:
    """The reduce-scatter of FSDP2, which sees what this process hands in."""

    def __init__(self, seen: dict[Any, Tensor]) -> None:
        self._seen = seen

    def allocate(self, size: Sequence[int], *, dtype: torch.dtype, device: torch.device) -> Tensor:
        return torch.empty(*size, dtype=dtype, device=device)

    def __call__(
        self, output_tensor: Tensor, input_tensor: Tensor, group: Any, op: Any, async_op: bool = False
    ) -> dist.Work | None:
        if op != dist.ReduceOp.AVG:  # then gradients were divided before, by a number that nobody tells
            raise RuntimeError(f"gradients must be reduced as means, in float32 or bfloat16, got {input_tensor.dtype}")
        self._seen[self] = _square(input_tensor)
        work: dist.Work | None = dist.reduce_scatter_tensor(
            output_tensor, input_tensor, op=op, group=group, async_op=async_op
        )
        return work


def _sharded_modules(model: nn.Module) -> list[Any]:
    if not (dist.is_available() and dist.is_initialized()):
        return []
    from torch.distributed.fsdp import FSDPModule, FullyShardedDataParallel

    if any(isinstance(module, FullyShardedDataParallel) for module in model.modules()):
        raise RuntimeError("model must be sharded by torch.distributed.fsdp.fully_shard, got FullyShardedDataParallel")
    return [module for module in model.modules() if isinstance(module, FSDPModule)]


def _sq_norm(grads: Sequence[Any]) -> float:
    """Return the squared norm of gradients together, those in shards over all processes that have a part."""
    totals: dict[Any, Tensor] = {}
    for grad in grads:
        place = (grad.device_mesh, grad.placements) if hasattr(grad, "placements") else None
        square = _square(_here(grad))
        totals[place] = square if place not in totals else totals[place] + square.to(totals[place].device)
    for place, total in totals.items():
        for axis, placement in enumerate(place[1] if place else ()):
            if placement.is_shard():
                dist.all_reduce(total, group=place[0].get_group(axis))
    every = list(totals.values())
    return float(torch.stack([total.to(every[0].device) for total in every]).sum()) if every else 0.0


def _here(grad: Any) -> Tensor:
    here: Tensor = grad.to_local() if hasattr(grad, "to_local") else grad
    return here


def _square(tensor: Tensor) -> Tensor:
    norm: Tensor = torch.linalg.vector_norm(tensor, dtype=torch.promote_types(tensor.dtype, torch.float32))
    return norm.double().square()
