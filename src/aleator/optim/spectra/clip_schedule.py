"""Schedules for the threshold c of spectral clipping during training.

The distance that a matrix can move in a step, in the spectral norm, is at most α·η·c: the product c·η is what is tuned.

    warm-up, k < w:    c_k = c · η_base / η_k                     so that c·η is constant while the learning rate grows
    then               c_k = c
    last n steps:      c_k = c · (final + (1 − final) · q(p))     with p = (k − (T − n)) / n, if wished

with q(p) = 1 − p, 1 − √p, (1 + cos πp)/2 or 1 − p², or c_k = c · final^p. A constant c after the warm-up was enough
in the paper's experiments. Past the last step T − 1 the threshold stays where that step left it; it never reaches 0.

X. Jiang, A. Semenov and S. Stich, "Enhancing LLM Training via Spectral Clipping", ICML 2026, arXiv 2603.14315.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from aleator.data.shares import floor_share

_SHAPES: dict[str, Callable[[float], float]] = {
    "linear": lambda p: 1 - p,
    "sqrt": lambda p: 1 - math.sqrt(p),
    "cosine": lambda p: (1 + math.cos(math.pi * p)) / 2,
    "square": lambda p: 1 - p * p,
}


@dataclass(frozen=True)
class ClipSchedule:
    """The threshold of every step.

    Attributes:
        warmup_steps: w, the length of the learning rate's own warm-up.
        total_steps: T, needed for a decay.
        decay_fraction: n = ⌊fraction·T⌋ steps at the end decay. 1 decays over the whole run, for example from a start
            to an end in pre-clipping.
        decay: the shape q of the decay, or ``"exp"``.
        final: what the decay tends to, as a share of c. At 0 the last steps clip very hard.

    Raises:
        ValueError: if a value is out of range.

    Example:
        >>> schedule = ClipSchedule(warmup_steps=100)
        >>> schedule(10.0, step=0, lr=1e-5, base_lr=1e-3), schedule(10.0, step=100, lr=1e-3, base_lr=1e-3)
        (1000.0, 10.0)
    """

    warmup_steps: int = 0
    total_steps: int | None = None
    decay_fraction: float = 0.0
    decay: Literal["linear", "sqrt", "cosine", "square", "exp"] = "linear"
    final: float = 0.0

    def __post_init__(self) -> None:
        if self.total_steps is not None and self.total_steps < 1:
            raise ValueError(f"total_steps must be at least 1, got {self.total_steps}")
        if not 0 <= self.warmup_steps <= (self.total_steps or math.inf):
            raise ValueError(
                f"warmup_steps must be between 0 and total_steps, which is {self.total_steps}, got {self.warmup_steps}"
            )
        if not 0 <= self.decay_fraction <= 1:
            raise ValueError(f"decay_fraction must be in [0, 1], got {self.decay_fraction}")
        if self.decay_fraction and self.total_steps is None:
            raise ValueError(f"decay_fraction cannot be used without total_steps, got {self.decay_fraction}")
        if self.decay not in (*_SHAPES, "exp"):
            raise ValueError(f"decay must be one of {', '.join(_SHAPES)}, exp, got {self.decay!r}")
        if not self.final >= 0 or (self.decay == "exp" and self.final == 0):
            raise ValueError(f"final must not be negative, and positive with decay='exp', got {self.final}")

    def __call__(self, clip: float, step: int, lr: float | Tensor, base_lr: float | Tensor) -> float | Tensor:
        """Return c_k.

        Args:
            clip: c.
            step: k, 0 at the first step.
            lr: η_k; a 0-d tensor gives a tensor during the warm-up.
            base_lr: η_base, the learning rate that the warm-up leads to.
        """
        if step < self.warmup_steps:
            # A rate of 0 leaves the weights where they are, whatever the threshold, which must not be 0.
            if isinstance(lr, Tensor) or isinstance(base_lr, Tensor):
                ratio = torch.as_tensor(base_lr / (lr.clamp(min=1e-10) if isinstance(lr, Tensor) else max(lr, 1e-10)))
                return clip * torch.where(ratio > 0, ratio, 1)
            return clip * (base_lr / max(lr, 1e-10) or 1.0)
        length = floor_share(self.decay_fraction, self.total_steps or 1)
        begin = (self.total_steps or 0) - length
        if not length or step < begin:
            return clip
        p = min(step - begin, length - 1) / length
        if self.decay == "exp":
            return float(clip * self.final**p)
        return clip * (self.final + (1 - self.final) * _SHAPES[self.decay](p))
