"""The optimizer, built from its row, and the schedule that the shared options name; see `TrainingOptions`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import ConstantLR, LRScheduler

from aleator.experiment.model_state import unwrapped
from aleator.later import named
from aleator.optim import CosineToBudget, LinearEpochWarmupPoly, is_vector, without_decay
from aleator.recipes.parts.descent import TrainingOptions
from aleator.recipes.parts.rows import OPTIMIZERS


def make_optimizer(
    model: nn.Module,
    options: TrainingOptions,
    total_steps: int,
    lr_ratio: Callable[[str], float] = lambda name: 1.0,
    supplied: Mapping[str, Any] | None = None,
) -> Optimizer:
    """Return the optimizer that the options name, for a placed model.

    Args:
        model: as `placed` returned it.
        options: of the recipe. What is None is left to the optimizer.
        total_steps: of the schedule; thresholds and slow means that have a schedule of their own follow it.
        lr_ratio: called with a parameter's name, returns what the learning rate of the options is multiplied by.
        supplied: what some optimizers need of the run: ``n_data`` and ``generator``.
    """
    row = OPTIMIZERS[options.optimizer]
    settings: dict[str, Any] = {"lr": options.peak_lr, "weight_decay": options.weight_decay, **row.settings}
    if row.momentum is not None:
        own = options.own_momentum.get(options.optimizer, row.momentum)
        settings["momentum"] = own if options.momentum is None else options.momentum
    if options.optimizer == "sgd":
        plain = options.schedule == "sasa" or getattr(options, "lr_rule", "fixed") != "fixed"  # derived without it
        settings["nesterov"] = settings["momentum"] > 0 and not plain
    given = {name: getattr(options, name) for name in ("betas", "clip", "apply_to")}
    settings |= {name: value for name, value in given.items() if value is not None}
    if "clip_schedule" in row.paced:
        from aleator.optim import ClipSchedule

        settings["clip_schedule"] = ClipSchedule(warmup_steps=options.warmup_steps(total_steps))
    if "warmup" in row.paced:
        settings["warmup"] = total_steps
    settings |= {name: value for name, value in (supplied or {}).items() if name in row.paced}
    if "prox" in row.paced:
        settings["prox"] = options.prox_operator()  # type: ignore[attr-defined]
    of_ratio: dict[float, list[tuple[str, nn.Parameter]]] = {1.0: []}  # first: the rate of the first group is logged
    for of_model, parameter in unwrapped(model).named_parameters():
        of_ratio.setdefault(lr_ratio(of_model), []).append((of_model, parameter))
    groups: list[dict[str, Any]] = []
    for ratio, members in of_ratio.items():
        if members and row.matrices:
            # Biases and normalisation are neither decayed nor adapted, as is the practice.
            groups += [{**group, "lr": options.peak_lr * ratio} for group in without_decay(members, is_vector)]
        elif members:
            groups.append({"params": [parameter for _, parameter in members], "lr": options.peak_lr * ratio})
    if row.matrices:
        settings["adapt"] = is_matrix
    return named(row.cls)(groups, **settings)  # type: ignore[no-any-return]


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter has two or more dimensions."""
    return not is_vector(name, parameter)


def make_schedule(optimizer: Optimizer, options: TrainingOptions, total_steps: int) -> LRScheduler:
    """Return the learning-rate schedule that the options name, over ``total_steps`` steps."""
    warmup = options.warmup_steps(total_steps)
    if options.schedule == "constant":
        return ConstantLR(optimizer, factor=1.0)
    if options.schedule == "linear":
        return LinearEpochWarmupPoly(optimizer, total_steps, warmup_steps=warmup)
    if options.schedule == "sasa":
        from aleator.optim import SASA

        return SASA(optimizer, min(1000, max(40, total_steps // 20)))
    own = options.peak_lr / 500 if options.own_lr_min is None else options.own_lr_min
    lr_min = own if options.lr_min is None else options.lr_min
    return CosineToBudget(optimizer, total_steps, lr_min=lr_min, warmup=warmup)
