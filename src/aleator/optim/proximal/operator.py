"""The proximal operator of a penalty: what a step does with the part of the objective that has no gradient.

    prox_{t f}(v) = argmin_x f(x) + Σ_i D_i (x_i − v_i)² / (2t),    D = 1 unless a metric is given

It is the identity where f is 0, soft thresholding where f is λ‖x‖₁, and the projection on C where f is 0 on C and
infinite elsewhere. Zeros are exact. A gradient step on the smooth part, followed by this with the same t, stays where
the whole objective is least. Where the step had a scale of its own for every coordinate, as Adam's has, so must this:
with another metric the fixed points solve another objective.

A. Beck, "First-Order Methods in Optimization", SIAM 2017, chapter 6.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

Step = float | Tensor


class Prox:
    """A penalty f and its proximal operator; the base of all of them, not one by itself.

    Attributes:
        elementwise: whether every coordinate is treated by itself, so that a shard is treated as the whole tensor.
        projection: whether f is 0 on a set and infinite elsewhere; the operator then does not depend on the step.
        metric_aware: whether a diagonal metric other than 1 can be given.
        ridge: λ of a part (λ/2)‖x‖² of f, which weight decay would be a second time.
    """

    elementwise: ClassVar[bool] = False
    projection: ClassVar[bool] = False
    metric_aware: ClassVar[bool] = False
    ridge: float = 0.0

    def __call__(
        self, v: Float[Tensor, "*shape"], step: Step = 1.0, metric: Float[Tensor, "*shape"] | None = None
    ) -> Float[Tensor, "*shape"]:
        """Return prox_{t f}(v), of the shape and dtype of ``v``; differentiable where the map is.

        Half precision is computed in float32. Under ``torch.autograd.set_detect_anomaly(True)`` numbers that are not
        finite are looked for, which waits for the device; otherwise they spread.

        Args:
            v: the point, the whole tensor.
            step: t, not negative. A tensor's value is not looked at.
            metric: D, positive; 1 everywhere by default.

        Raises:
            ValueError: if the step is negative, or the operator has no form for a metric.
            FloatingPointError: in anomaly mode, if ``v`` is not finite.
        """
        check_step(step)
        if metric is not None and not (self.metric_aware or (self.projection and self.elementwise)):
            raise ValueError(f"metric must be None for {type(self).__name__}, which has no form for another one")
        if _is_debugging() and not bool(torch.isfinite(v).all()):
            raise FloatingPointError(f"v must be finite, got {v.numel() - int(torch.isfinite(v).sum())} others")
        if v.numel() == 0 or self.is_identity:
            return v.clone()
        wide = v.to(torch.promote_types(v.dtype, torch.float32))
        metric = None if metric is None else metric.to(wide.dtype)
        return self.apply(wide, step, metric).to(v.dtype) + 0.0  # −0.0 + 0.0 is 0.0

    @property
    def is_identity(self) -> bool:
        """Whether f is 0 everywhere."""
        return False

    @property
    def sliceable(self) -> int | None:
        """The dimension whose slices are treated one by one, so that a shard along it is treated as the whole."""
        return None

    def apply(self, v: Tensor, step: Step, metric: Tensor | None) -> Tensor:
        """Return the operator's value for a tensor that is not empty, of float32 or float64."""
        raise NotImplementedError

    def penalty(self, x: Float[Tensor, "*shape"]) -> Float[Tensor, ""]:
        """Return f(x), 0-d; 0 for projections, whose set x is taken to be in."""
        return x.new_zeros((), dtype=torch.promote_types(x.dtype, torch.float32))

    @torch.no_grad()
    def apply_(self, tensors: Sequence[Tensor], step: Step = 1.0, metrics: Sequence[Tensor] | None = None) -> None:
        """Replace each of several tensors by its proximal point, in place.

        Args:
            tensors: whole tensors, or shards where the operator is elementwise.
            step: t, the same for all.
            metrics: D of each.

        Raises:
            ValueError: as when called.
        """
        check_step(step)
        if self.is_identity or not tensors:
            return
        if metrics is None and not _is_debugging() and self.apply_foreach_(list(tensors), step):
            return
        for i, tensor in enumerate(tensors):
            tensor.copy_(self(tensor, step, None if metrics is None else metrics[i]))

    def apply_foreach_(self, tensors: list[Tensor], step: Step) -> bool:
        """Do what `apply_` does without a metric in few launches, if the operator can; say whether it did."""
        return False


def _is_debugging() -> bool:
    return not torch.compiler.is_compiling() and torch.is_anomaly_enabled()


def check_step(step: Step) -> None:
    """Check a step that is a number.

    Raises:
        ValueError: if it is negative or not finite.
    """
    if not isinstance(step, Tensor) and not (step >= 0 and math.isfinite(step)):
        raise ValueError(f"step must be finite and not negative, got {step}")


def check_weight(name: str, value: float | Tensor) -> None:
    """Check the weight of a penalty, a number or a tensor, whose values are read once.

    Raises:
        ValueError: naming the parameter and the value.
    """
    if isinstance(value, Tensor):
        if not bool((value >= 0).all() & torch.isfinite(value).all()):
            raise ValueError(f"{name} must be finite and not negative everywhere, got {float(value.min())}")
    elif not (value >= 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be finite and not negative, got {value}")


def check_positive(name: str, value: float) -> None:
    """Check a number that must be positive and finite.

    Raises:
        ValueError: naming the parameter and the value.
    """
    if not (value > 0 and math.isfinite(value)):
        raise ValueError(f"{name} must be positive and finite, got {value}")


def placed(value: float | Tensor, like: Tensor) -> float | Tensor:
    """Return a number as it is and a tensor where, and as precise as, another one is."""
    return value.to(like.device, like.dtype) if isinstance(value, Tensor) else value


def threshold(weight: float | Tensor, step: Step, metric: Tensor | None, like: Tensor) -> float | Tensor:
    """Return t·λ/D, a number where all of them are numbers."""
    product = placed(step, like) * placed(weight, like)
    return product if metric is None else product / metric


def soft_threshold(v: Shaped[Tensor, "*shape"], level: float | Tensor) -> Shaped[Tensor, "*shape"]:
    """Return sign(v)·max(|v| − level, 0), with +0.0 for zero and NaN for NaN."""
    # v minus what of it lies within ±level: no product with a sign, which would make −0.0 and lose NaN.
    clamped = torch.clamp(v, -level, level)  # type: ignore[arg-type]  # both numbers or both tensors
    return v - clamped
