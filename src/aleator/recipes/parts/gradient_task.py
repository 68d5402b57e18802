"""The common base of tasks with one model, one optimizer and one sampler: their placement and their state."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aleator.data import RepeatedRandomSampler
from aleator.experiment.gradient_step import ExampleSchedule
from aleator.experiment.model_state import load_training_state, training_state
from aleator.random import Streams
from aleator.recipes.parts.descent import TrainingOptions
from aleator.recipes.parts.part import Sampler


def check_shares(batch_size: int, accelerator: Accelerator) -> None:
    """Check that every process can have an equal share of a batch.

    Raises:
        ValueError: if the processes do not divide the batch size.
    """
    if batch_size % accelerator.num_processes:
        processes = accelerator.num_processes
        raise ValueError(f"batch_size must be a multiple of the {processes} processes, got {batch_size}")


def whole_rounds(count: int, batch_size: int, streams: Streams, accelerator: Accelerator) -> RepeatedRandomSampler:
    """Return the sampler of rounds over all of ``count`` examples, in the order of the stream ``data``.

    Raises:
        ValueError: if the processes do not divide the batch size.
    """
    check_shares(batch_size, accelerator)
    return RepeatedRandomSampler(
        count,
        ratio=1.0,
        generator=streams.generator("data"),
        num_replicas=accelerator.num_processes,
        rank=accelerator.process_index,
    )


def endless(sampler: RepeatedRandomSampler) -> Callable[[int], Iterator[Tensor]]:
    """Return a function that yields the batches of a sampler, pass after pass."""

    def batches(batch_size: int) -> Iterator[Tensor]:
        while True:
            yield from sampler.batches(batch_size)

    return batches


class GradientTask:
    """What tasks with one model, one optimizer and one sampler have in common: what training changes, and its return.

    Attributes:
        accelerator: of the run.
        model: as `placed` returned it.
        optimizer: of its parameters.
        schedule: of the optimizer.
        sampler: which examples a step sees.
    """

    accelerator: Accelerator
    model: nn.Module
    optimizer: Optimizer
    schedule: LRScheduler | ExampleSchedule
    sampler: Sampler

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule and the position in the data."""
        scaler = self.accelerator.scaler
        return {
            **training_state(self.model, self.optimizer),
            "schedule": cast("LRScheduler", self.schedule).state_dict(),
            "sampler": self.sampler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        load_training_state(self.model, self.optimizer, state)
        cast("LRScheduler", self.schedule).load_state_dict(state["schedule"])
        self.sampler.load_state_dict(state["sampler"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])


def placed(model: nn.Module, options: TrainingOptions, accelerator: Accelerator) -> nn.Module:
    """Return the model on the accelerator's device: as it is, replicated, or sharded over the processes."""
    model = model.to(accelerator.device)
    if not options.shard or accelerator.num_processes == 1:
        return accelerator.prepare_model(model)  # type: ignore[no-any-return]
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(accelerator.device.type, (accelerator.num_processes,))
    return cast("nn.Module", fully_shard(model, mesh=mesh))
