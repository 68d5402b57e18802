"""A learning rate that follows the examples seen, where batches change their size.

With S examples in the whole run, a warm-up over the first w, and s those seen at the end of the step in question:

    lr = peak · s/w                                                        s < w
    lr = lr_min + (peak − lr_min)(1 + cos(π (s − w)/(S − w)))/2            w ≤ s ≤ S,   lr_min from then on

The step's own examples count, so that no step is taken at a rate of zero and the last has ``lr_min``. The size of the
batch may also multiply the peak, by √(b/b_0) or b/b_0.

T. Lau, H. Liu and M. Kolar, "AdAdaGrad", arXiv 2402.11215, where s is counted before the step, lr_min is a tenth of the
peak and the batch multiplies nothing.
"""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer

from aleator.optim.large_batch.schedules import scale_for_batch
from aleator.optim.schedules import cosine_factor

Shape = Literal["cosine", "constant"]
Scaling = Literal["sqrt", "linear"]


class SampleLR:
    """Sets the learning rates of a step from the examples seen until its end.

    Before a step call `ahead` with the batch's examples, which sets the rates of the step, and after it `advance`.
    Rates are computed from the number of examples alone. Groups that join later follow with their own rate as the peak.

    Args:
        optimizer: its groups' learning rates are the peaks.
        warmup: w, in examples, below S; 0 for none.
        total: S, in examples.
        shape: ``"cosine"``, or ``"constant"`` after the warm-up.
        lr_min: where a cosine ends; at most the smallest peak. None is a tenth of each peak.
        scaling: what the size of the batch multiplies the peak by: √(b/b_0), b/b_0, or nothing.
        initial: b_0, the batch that the peaks are for.

    Raises:
        ValueError: if a value is out of range, or ``initial`` is missing for a scaling.

    Example:
        >>> import torch
        >>> optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.1)
        >>> schedule = SampleLR(optimizer, warmup=0, total=100)
        >>> schedule.ahead(50)
        >>> round(optimizer.param_groups[0]["lr"], 3)
        0.055
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup: int,
        total: int,
        shape: Shape = "cosine",
        *,
        lr_min: float | None = None,
        scaling: Scaling | None = None,
        initial: int | None = None,
    ) -> None:
        if total < 1:
            raise ValueError(f"total must be at least 1, got {total}")
        if not 0 <= warmup < total:
            raise ValueError(f"warmup must be in [0, {total}), total being {total}, got {warmup}")
        if shape not in ("cosine", "constant"):
            raise ValueError(f"shape must be 'cosine' or 'constant', got {shape!r}")
        if scaling not in (None, "sqrt", "linear"):
            raise ValueError(f"scaling must be 'sqrt', 'linear' or None, got {scaling!r}")
        if scaling is not None and (initial is None or initial < 1):
            raise ValueError(f"initial must be a positive number of examples with scaling, got {initial}")
        for group in optimizer.param_groups:
            _begun(group)
            if lr_min is not None and not 0 <= lr_min <= group["initial_lr"]:
                peak = float(group["initial_lr"])
                raise ValueError(f"lr_min must be in [0, {peak}], the learning rate of every group, got {lr_min}")
        self.optimizer = optimizer
        self.total, self.warmup, self.shape, self.lr_min = total, warmup, shape, lr_min
        self.scaling: Scaling | None = scaling
        self.initial = initial
        self.examples = 0

    def ahead(self, examples: int) -> None:
        """Set the rates for a step on a batch of so many examples."""
        for group in self.optimizer.param_groups:
            rate = self._rate(_begun(group), min(self.examples + examples, self.total), examples)
            if isinstance(group["lr"], Tensor):  # that a compiled step holds
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def advance(self, examples: int) -> None:
        """Count the examples of a batch that a step was taken on."""
        self.examples += examples

    def state_dict(self) -> dict[str, Any]:
        """Return the examples seen."""
        return {"examples": self.examples}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue where `state_dict` was called."""
        self.examples = int(state["examples"])

    def _rate(self, peak: float, seen: int, batch: int) -> float:
        if self.scaling is not None:
            assert self.initial is not None
            peak = scale_for_batch(peak, self.initial, batch, self.scaling)
        if seen < self.warmup:
            return peak * seen / self.warmup
        if self.shape == "constant":
            return peak
        low = peak / 10 if self.lr_min is None else self.lr_min
        return low + (peak - low) * cosine_factor(seen - self.warmup, self.total - self.warmup)


def _begun(group: dict[str, Any]) -> float:
    """Return the peak of a group, which is the rate that it began with."""
    return float(group.setdefault("initial_lr", float(group["lr"])))
