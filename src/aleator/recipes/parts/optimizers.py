"""What the shared options mean: a model on its device, an optimizer, a schedule; see `TrainingOptions`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, cast

import torch
from accelerate import Accelerator
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler

from aleator.data import RepeatedRandomSampler
from aleator.experiment.model_state import load_training_state, training_state, unwrapped
from aleator.optim import (
    LAMB,
    LARS,
    ClipSchedule,
    CosineToBudget,
    LinearEpochWarmupPoly,
    SpectraAdamW,
    SpectraAdEMAMix,
    SpectraMARS,
    SpectraSignum,
    is_vector,
    without_decay,
)
from aleator.random import Streams
from aleator.recipes.parts.descent import TrainingOptions


class Sampler(Protocol):
    """What says which examples a step sees, and has a position."""

    def state_dict(self) -> dict[str, Any]:
        """Return the position."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue there."""
        ...


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
    schedule: LRScheduler
    sampler: Sampler

    def state_dict(self) -> dict[str, Any]:
        """Return weights, optimizer, schedule and the position in the data."""
        scaler = self.accelerator.scaler
        return {
            **training_state(self.model, self.optimizer),
            "schedule": self.schedule.state_dict(),
            "sampler": self.sampler.state_dict(),
            "scaler": scaler.state_dict() if scaler is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        load_training_state(self.model, self.optimizer, state)
        self.schedule.load_state_dict(state["schedule"])
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


def make_optimizer(
    model: nn.Module,
    options: TrainingOptions,
    total_steps: int,
    lr_ratio: Callable[[str], float] = lambda name: 1.0,
) -> Optimizer:
    """Return the optimizer that the options name, for a placed model.

    Args:
        model: as `placed` returned it.
        options: of the recipe. What is None is left to the optimizer.
        total_steps: of the schedule; thresholds and slow means that have a schedule of their own follow it.
        lr_ratio: called with a parameter's name, returns what the learning rate of the options is multiplied by.
    """
    name = options.optimizer
    settings: dict[str, Any] = {"lr": options.peak_lr, "weight_decay": options.weight_decay}
    settings |= {key: value for key in ("momentum", "betas") if (value := getattr(options, key)) is not None}
    of_ratio: dict[float, list[tuple[str, nn.Parameter]]] = {1.0: []}  # first: the rate of the first group is logged
    for of_model, parameter in unwrapped(model).named_parameters():
        of_ratio.setdefault(lr_ratio(of_model), []).append((of_model, parameter))
    if name in ("lamb", "lars"):
        # Biases and normalisation are neither decayed nor adapted, as is the practice.
        groups = [
            {**group, "lr": options.peak_lr * ratio}
            for ratio, named in of_ratio.items()
            if named
            for group in without_decay(named, is_vector)
        ]
        settings["adapt"] = lambda name, parameter: not is_vector(name, parameter)
        return LAMB(groups, **settings) if name == "lamb" else LARS(groups, form="algorithm1", **settings)
    parameters = [
        {"params": [parameter for _, parameter in named], "lr": options.peak_lr * ratio}
        for ratio, named in of_ratio.items()
        if named
    ]
    if name == "sgd":
        momentum = settings.setdefault("momentum", 0.9)
        return torch.optim.SGD(parameters, nesterov=momentum > 0, **settings)
    if name == "adamw":
        return torch.optim.AdamW(parameters, **settings)
    if name == "signum":
        return SpectraSignum(parameters, apply_to="none", **settings)
    settings |= {key: value for key in ("clip", "apply_to") if (value := getattr(options, key)) is not None}
    settings["clip_schedule"] = ClipSchedule(warmup_steps=options.warmup_steps(total_steps))
    if name == "spectra-adamw":
        return SpectraAdamW(parameters, **settings)
    if name == "spectra-signum":
        return SpectraSignum(parameters, **settings)
    if name == "spectra-mars":
        return SpectraMARS(parameters, **settings)
    return SpectraAdEMAMix(parameters, warmup=total_steps, **settings)


def make_schedule(optimizer: Optimizer, options: TrainingOptions, total_steps: int) -> LRScheduler:
    """Return the learning-rate schedule that the options name, over ``total_steps`` steps."""
    warmup = options.warmup_steps(total_steps)
    if options.schedule == "constant":
        return ConstantLR(optimizer, factor=1.0)
    if options.schedule == "linear":
        return LinearEpochWarmupPoly(optimizer, total_steps, warmup_steps=warmup)
    lr_min = options.peak_lr / 500 if options.lr_min is None else options.lr_min
    return CosineToBudget(optimizer, total_steps, lr_min=lr_min, warmup=warmup)
