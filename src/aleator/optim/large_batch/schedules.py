"""Learning rates for large batches: the rules by which LAMB's settings move from one batch size to another.

With a fixed number of epochs a batch B instead of B₀ leaves T·B₀/B steps, and

    square-root rule        lr(B) = lr(B₀) √(B/B₀)
    linear-epoch warm-up    the fraction of T spent on warm-up grows as B: its number of steps w stays the same
    rate after k steps      lr (k + 1)/w    for k < w,        lr (1 − k/T)ᵖ    from then on, p = 1

k counts the steps already taken, 0 for the first: no step is taken at a rate of zero, which is what is left after the
last one. The decay is measured on the whole of T, as in the paper, and so takes over from the warm-up with a drop
to (1 − w/T)ᵖ; measured on the rest, (1 − (k − w)/(T − w))ᵖ, it takes over at lr.

In a mixed-batch run, short sequences in large batches and then long ones in smaller batches, every stage has a warm-up
from zero and a decay of its own. The optimizer keeps its running means.

Y. You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes", ICLR 2020, arXiv 1904.00962.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from aleator.optim.scaling import scale_lr

Horizon = Literal["total", "rest"]


def scale_for_batch(lr: float, base_batch: int, batch: int, rule: Literal["sqrt", "linear"] = "sqrt") -> float:
    """Return the learning rate for ``batch``, ``lr`` being that for ``base_batch``: `scale_lr` for endless data.

    Args:
        lr: at ``base_batch``.
        base_batch: B₀, in examples.
        batch: B, in examples.
        rule: multiply by √(B/B₀), the rule for LAMB, or by B/B₀, the rule for SGD.

    Raises:
        ValueError: if a batch is not positive, or the rule unknown.

    Example:
        >>> round(scale_for_batch(6.25e-4, 512, 32768), 12)
        0.005
    """
    _check_batches(base_batch, batch)
    if rule not in ("sqrt", "linear"):
        raise ValueError(f"rule must be 'sqrt' or 'linear', got {rule!r}")
    return scale_lr(lr, base_batch, batch, "adam" if rule == "sqrt" else "sgd")


def scale_warmup(warmup_ratio: float, base_batch: int, batch: int) -> float:
    """Return the fraction of the steps to warm up for ``batch``, ``warmup_ratio`` being that for ``base_batch``.

    Raises:
        ValueError: if a batch is not positive, or the result is above 1.
    """
    _check_batches(base_batch, batch)
    ratio = warmup_ratio * batch / base_batch
    if warmup_ratio == base_batch / batch:  # all of the steps, whatever rounding says
        ratio = 1.0
    if not 0 <= ratio <= 1:
        raise ValueError(
            f"warmup_ratio must be in [0, {base_batch / batch:g}] for a batch of {batch}, got {warmup_ratio}"
        )
    return ratio


def warmup_poly_factor(step: int, total_steps: int, warmup_steps: int, power: float, horizon: Horizon) -> float:
    """Return what the peak rate is multiplied by after ``step`` steps: the formula above, 0 from ``total_steps`` on."""
    if step < warmup_steps:
        return (step + 1) / warmup_steps
    if step >= total_steps:
        return 0.0
    begin = warmup_steps if horizon == "rest" else 0
    return float((1 - (step - begin) / (total_steps - begin)) ** power)


class LinearEpochWarmupPoly(LRScheduler):
    """Linear warm-up, then polynomial decay to zero at ``total_steps``, of each group's own learning rate.

    Call ``step()`` after every optimizer step. Rates are computed from the step number alone: a resumed run continues
    on the same values.

    Args:
        optimizer: its groups' learning rates are the peaks.
        total_steps: T.
        warmup_steps: w; give this or ``warmup_ratio``.
        warmup_ratio: w/T; for other batch sizes by `scale_warmup`.
        power: p.
        horizon: measure the decay on all of T or on the steps after the warm-up.

    Raises:
        ValueError: if a value is out of range.

    Example:
        >>> import torch
        >>> from aleator.optim import LAMB
        >>> optimizer = LAMB([torch.ones(1, requires_grad=True)], lr=scale_for_batch(6.25e-4, 512, 4096))
        >>> schedule = LinearEpochWarmupPoly(optimizer, 125_000, warmup_ratio=scale_warmup(1 / 320, 512, 4096))
        >>> schedule.warmup_steps
        3125
    """

    def __init__(
        self,
        optimizer: Optimizer,
        total_steps: int,
        *,
        warmup_steps: int | None = None,
        warmup_ratio: float | None = None,
        power: float = 1.0,
        horizon: Horizon = "total",
    ) -> None:
        if warmup_steps is not None and warmup_ratio is not None:
            raise ValueError(f"warmup_steps or warmup_ratio must be given, got both, {warmup_steps} and {warmup_ratio}")
        if warmup_ratio is not None and not 0 <= warmup_ratio <= 1:
            raise ValueError(f"warmup_ratio must be in [0, 1], got {warmup_ratio}")
        self.total_steps = total_steps
        self.warmup_steps = round((warmup_ratio or 0.0) * total_steps) if warmup_steps is None else warmup_steps
        self.power = power
        self.horizon = horizon
        _check_shape(self.total_steps, self.warmup_steps, power, horizon)
        super().__init__(optimizer)

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group at the present step."""
        for group in self.optimizer.param_groups:
            if "initial_lr" not in group:  # added after construction
                group["initial_lr"] = group["lr"].clone() if isinstance(group["lr"], Tensor) else group["lr"]
        factor = warmup_poly_factor(self.last_epoch, self.total_steps, self.warmup_steps, self.power, self.horizon)
        return [group["initial_lr"] * factor for group in self.optimizer.param_groups]


@dataclass(frozen=True)
class Stage:
    """A part of a run with its own batches.

    Attributes:
        batch: examples in a step.
        seq_len: tokens in an example.
        steps: how many steps it has; given and not derived, since published runs do not divide evenly.
        lr: its highest learning rate.
        warmup: the steps of its warm-up, at most ``steps``.
    """

    batch: int
    seq_len: int
    steps: int
    lr: float
    warmup: int

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            ValueError: naming the one that is out of range.
        """
        for name in ("batch", "seq_len", "lr"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, got {getattr(self, name)}")
        _check_shape(self.steps, self.warmup, 1.0, "total")


class TwoStageSchedule(LRScheduler):
    """The learning rates of a run in stages, usually two, and which stage it is in.

    Sets the rate of all groups alike. Before a step the loop asks `stage` how the batch is to be made.

    Args:
        optimizer: whose learning rates are set; its running means are kept from stage to stage.
        stages: one after the other.
        rewarm: start every stage with its own warm-up from zero. False, for comparison, warms up once, as the first
            stage says, and decays from its rate over all stages.
        power: p of the decay.
        horizon: measure the decay on all steps of a stage or on those after its warm-up.

    Raises:
        ValueError: if there is no stage, or a value is out of range.

    Example:
        >>> import torch
        >>> from aleator.optim import LAMB
        >>> optimizer = LAMB([torch.ones(1, requires_grad=True)])
        >>> stages = [Stage(65536, 128, 7038, 6e-3, 2000), Stage(32768, 512, 1563, 4e-3, 200)]
        >>> TwoStageSchedule(optimizer, stages).stage.seq_len
        128
    """

    def __init__(
        self,
        optimizer: Optimizer,
        stages: Sequence[Stage],
        *,
        rewarm: bool = True,
        power: float = 1.0,
        horizon: Horizon = "total",
    ) -> None:
        if not stages:
            raise ValueError("stages must have at least one stage, got none")
        self.stages = tuple(stages)
        self.rewarm = rewarm
        self.power = power
        self.horizon = horizon
        _check_shape(stages[0].steps, stages[0].warmup, power, horizon)
        super().__init__(optimizer)

    @property
    def total_steps(self) -> int:
        """The steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def stage(self) -> Stage:
        """The stage of the next step; after the last step, the last stage."""
        return self.stages[self._place()[0]]

    def get_lr(self) -> list[float | Tensor]:
        """Return the learning rate of every group at the present step."""
        index, step = self._place()
        stage, total = self.stages[index], self.stages[index].steps
        if not self.rewarm:
            stage, step, total = self.stages[0], self.last_epoch, self.total_steps
        rate = stage.lr * warmup_poly_factor(step, total, stage.warmup, self.power, self.horizon)
        return [rate for _ in self.optimizer.param_groups]

    def state_dict(self) -> dict[str, object]:
        """Return everything but the stages, which are given anew: also ``rewarm``, ``power`` and ``horizon``."""
        state: dict[str, object] = super().state_dict()
        return {name: value for name, value in state.items() if name != "stages"}

    def _place(self) -> tuple[int, int]:
        """Return the number of the stage and how many of its steps were taken."""
        step = self.last_epoch
        for index, stage in enumerate(self.stages[:-1]):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        return len(self.stages) - 1, step


def _check_batches(base_batch: int, batch: int) -> None:
    for name, value in (("base_batch", base_batch), ("batch", batch)):
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def _check_shape(total_steps: int, warmup_steps: int, power: float, horizon: str) -> None:
    if total_steps < 1:
        raise ValueError(f"total_steps must be at least 1, got {total_steps}")
    if not 0 <= warmup_steps <= total_steps:
        raise ValueError(f"warmup_steps must be in [0, {total_steps}], total_steps, got {warmup_steps}")
    if not power > 0:
        raise ValueError(f"power must be positive, got {power}")
    if horizon not in ("total", "rest"):
        raise ValueError(f"horizon must be 'total' or 'rest', got {horizon!r}")
