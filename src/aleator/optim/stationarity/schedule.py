"""A schedule that lowers the learning rate when a test on the optimizer's own steps says that progress has ended.

With a constant rate, SGD first approaches a solution and then hovers around it, the further the larger the rate. A test
tells the two phases apart from what the optimizer sees anyway. Here it looks through the hooks that torch's optimizers
call before and after a step: a step that a gradient scaler skips calls none, and is not counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aleator.optim.proximal.penalised import PenalisedOptimizer


class StationaritySchedule(LRScheduler):
    """Base of `SASA`, `Pflug` and `DistanceTest`; not a schedule by itself.

    The rate falls in the optimizer's step that decides it. ``step()`` is there for loops that call it on every
    schedule, and has nothing left to do. The state is numbers, and the tensors that a test compares with, by the names
    of parameters where the optimizer knows them.

    Attributes:
        optimizer: whose steps are watched and whose rates fall.
        factor: what a drop multiplies the learning rates of all groups by.
        drops: after which steps, counted from 1, the rates fell.
        steps: how many steps were seen.
    """

    _numbers: ClassVar[tuple[str, ...]] = ("drops", "steps")

    def __init__(self, optimizer: Optimizer, factor: float) -> None:
        if not isinstance(optimizer, Optimizer):
            raise TypeError(f"optimizer must be a torch optimizer, got {type(optimizer).__name__}")
        if not 0 < factor < 1:
            raise ValueError(f"factor must be in (0, 1), got {factor}")
        self.optimizer = optimizer
        self.factor = factor
        self.drops: list[int] = []
        self.steps = 0
        self._handles: tuple[Any, ...] = ()
        self._attach()

    def step(self, epoch: int | None = None) -> None:
        """Do nothing: the optimizer's steps have been seen already."""

    def get_last_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group."""
        return [group["lr"] for group in self.optimizer.param_groups]

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group."""
        return self.get_last_lr()

    def remove(self) -> None:
        """Stop watching."""
        for handle in self._handles:
            handle.remove()
        self._handles = ()

    def state_dict(self) -> dict[str, Any]:
        """Return what the schedule remembers; the rates themselves are the optimizer's."""
        return {name: _copied(getattr(self, name)) for name in self._numbers}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        for name in self._numbers:
            setattr(self, name, _copied(state_dict[name]))

    # --- what a test says

    def before_step(self) -> None:
        """Look at weights and gradients before a step."""

    def after_step(self) -> None:
        """Look at what the step has left; call `drop` where progress has ended."""

    def forget(self) -> None:
        """Begin anew: what was seen at the old rate says nothing about the new one."""

    def drop(self) -> None:
        """Lower the rates of all groups."""
        for group in self.optimizer.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].mul_(self.factor)
            else:
                group["lr"] *= self.factor
        self.drops.append(self.steps)
        self.forget()

    # --- being called

    def _attach(self) -> None:
        self._handles = (
            self.optimizer.register_step_pre_hook(self._before),
            self.optimizer.register_step_post_hook(self._after),
        )

    @torch.no_grad()
    def _before(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        closure: Callable[..., Any] | None = next(
            iter(args[1:]), kwargs.get("closure")
        )  # args begin with the optimizer
        if closure is not None:
            raise RuntimeError(
                f"{type(self).__name__} looks at gradients before the step: call backward first, and step without a "
                "closure"
            )
        if getattr(optimizer, "grad_scale", None) is not None:
            raise RuntimeError(
                f"{type(self).__name__} needs unscaled gradients: make the optimizer with fused=False, so that the "
                "scaler divides them before the step"
            )
        self.before_step()

    @torch.no_grad()
    def _after(self, optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        self.steps += 1
        self.after_step()

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_handles"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # A copy watches the copy of the optimizer, which torch makes without hooks.
        self.__dict__.update(state)
        self._attach()


def refuse_prox(optimizer: Optimizer, why: str) -> None:
    """Refuse an optimizer with a proximal step.

    Raises:
        ValueError: if it has one.
    """
    penalised = isinstance(optimizer, PenalisedOptimizer)
    if penalised and any(optimizer.operator_of(g, p) for g in optimizer.param_groups for p in g["params"]):  # type: ignore[attr-defined]
        raise ValueError(f"optimizer must have no proximal step, got {type(optimizer).__name__}: {why}")


def decayed_gradient(group: dict[str, Any], parameter: Tensor, part: Tensor) -> Tensor:
    """Return the gradient with weight decay in it, as SGD steps along it; ``part`` is the loss's share."""
    gradient = -part if group.get("maximize") else part
    decay = group.get("weight_decay", 0.0)
    return gradient + decay * parameter.detach() if isinstance(decay, Tensor) or decay else gradient


def names_of(optimizer: Optimizer) -> list[tuple[str, Tensor]]:
    """Return all parameters with their names, or ``"GROUP.INDEX"`` where they have none."""
    found = []
    for number, group in enumerate(optimizer.param_groups):
        names = group.get("param_names") or [f"{number}.{i}" for i in range(len(group["params"]))]
        found += list(zip(names, group["params"], strict=True))
    return found


def check_whole(schedule: str, parameters: list[Tensor]) -> None:
    """Refuse parameters that processes share out, of which a test would have to keep a copy in every checkpoint.

    Raises:
        RuntimeError: if there is one.
    """
    if any(hasattr(parameter, "placements") for parameter in parameters):
        raise RuntimeError(
            f"parameters must be whole tensors for {schedule}, got one that is sharded: SASA needs no copies of them"
        )


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if isinstance(value, list):
        return [_copied(item) for item in value]
    return {key: _copied(item) for key, item in value.items()} if isinstance(value, dict) else value
