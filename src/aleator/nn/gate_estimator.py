"""The stochastic unit as a module uses it: logits go in, gates come out, a gradient finds its way back.

A unit with the pre-activation a is on with a probability P(a). Its output has no useful derivative, and methods differ
in what they put in its place. A `GateEstimator` is such a method as a small object without state, so that a module can
be given one or another:

    gates = estimator(logits, generator=generator)

Y. Bengio, N. Léonard, A. Courville, "Estimating or Propagating Gradients Through Stochastic Neurons for Conditional
Computation", arXiv 1308.3432.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.nn.full_precision import FullPrecisionBuffers, at_least_float32


class GateEstimator(ABC):
    """A method of sampling gates from logits, and of estimating the gradient at the logits.

    This class has what holds for gates that are on with probability σ(a) and are then 1.

    Attributes:
        binary: whether a gate is 0 or 1.
        discrete: whether the noise decides nothing but which gates are on.
        gradient_when_off: whether a gate that is off passes a gradient on. Where not, nothing that depends on it need
            be computed, forwards or backwards.
    """

    binary: ClassVar[bool] = True
    discrete: ClassVar[bool] = True
    gradient_when_off: ClassVar[bool] = True

    @abstractmethod
    def __call__(
        self,
        logits: Float[Tensor, "*units"],
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "*units"] | None = None,
    ) -> Float[Tensor, "*units"]:
        """Sample gates, of the precision of the logits.

        Args:
            logits: a, of any shape.
            generator: of the noise. Without one it comes, as in dropout, from torch's default generator, whose state
                `torch.utils.checkpoint` replays.
            noise: instead of a generator; for most methods uniforms u in [0, 1), and a gate is on where u < P(a).
        """

    def probability(self, logits: Float[Tensor, "*units"]) -> Float[Tensor, "*units"]:
        """Return P(a), that a gate is on; it grows with a."""
        return logits.sigmoid()

    def magnitude(self, logits: Float[Tensor, "*units"]) -> Float[Tensor, "*units"]:
        """Return what a gate is when it is on."""
        return torch.ones_like(logits)

    def deterministic(
        self, logits: Float[Tensor, "*units"], threshold: float | Tensor = 0.0
    ) -> Float[Tensor, "*units"]:
        """Return gates without noise, for evaluation: on where a > threshold.

        Raises:
            ValueError: on a CPU, if a logit is not finite, which no threshold is below.
        """
        return torch.where(in_full_precision(logits) > threshold, self.magnitude(logits), 0)

    def score(self, logits: Float[Tensor, "*units"], gates: Float[Tensor, "*units"]) -> Float[Tensor, "*units"] | None:
        """Return what `score_loss` needs besides the losses; None where the gradient comes back through the gates."""
        return None


class StochasticUnits(FullPrecisionBuffers):
    """A layer of stochastic units: samples while training, deterministic in evaluation.

    Args:
        estimator: how gates are sampled and their gradient is estimated.
        dtype: of the threshold, float32 at least.

    Attributes:
        estimator: the same; it may be exchanged at any time.
        threshold: a gate is on in evaluation where its logit is above it. A buffer, 0 at first.
        score: of the last forward pass in training, for `surrogate`; None with most estimators.

    Raises:
        TypeError: if the estimator is none, or the class of one.
    """

    threshold: Tensor

    def __init__(self, estimator: GateEstimator, *, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        if not isinstance(estimator, GateEstimator):
            raise TypeError(f"estimator must be a GateEstimator, got {estimator!r}")
        self.estimator = estimator
        self.score: Tensor | None = None
        self.register_buffer("threshold", torch.zeros((), dtype=at_least_float32(dtype)))

    def forward(
        self,
        logits: Float[Tensor, "*units"],
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "*units"] | None = None,
    ) -> Float[Tensor, "*units"]:
        """Return the gates."""
        if not self.training:
            return self.estimator.deterministic(logits, self.threshold)
        gates = self.estimator(logits, generator=generator, noise=noise)
        self.score = self.estimator.score(logits, gates)
        return gates

    def extra_repr(self) -> str:
        """Name the estimator."""
        return repr(self.estimator)

    def __getstate__(self) -> dict[str, Any]:
        # What belongs to the last batch hangs on its graph, which can be neither copied nor saved.
        return {**self.__dict__, "score": None}


def in_full_precision(logits: Tensor) -> Tensor:
    """Check logits and return them in at least float32; on a GPU they are not looked at, which would wait for it.

    Raises:
        TypeError: if they are not of a floating-point type.
        ValueError: if one is not finite.
    """
    if not logits.is_floating_point():
        raise TypeError(f"logits must be of a floating-point type, got {logits.dtype}")
    if logits.device.type == "cpu" and logits.numel() and not torch.compiler.is_compiling():
        low, high = (float(end) for end in logits.detach().aminmax())
        if not (math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"logits must be finite, got values from {low} to {high}")
    return logits.to(torch.promote_types(logits.dtype, torch.float32))


def uniforms(logits: Tensor, generator: torch.Generator | None, noise: Tensor | None, *copies: int) -> Tensor:
    """Return the noise given, or uniforms in [0, 1), like the logits and of their precision.

    The logits have to be in full precision: in bfloat16 a uniform is 0 once in 500 draws.

    Raises:
        ValueError: if the noise has another shape than ``copies`` of the logits.
    """
    shape = (*copies, *logits.shape)
    if noise is None:
        return torch.rand(shape, generator=generator, dtype=logits.dtype, device=logits.device)
    if tuple(noise.shape) != shape:
        raise ValueError(f"noise must have the shape {shape}, got {tuple(noise.shape)}")
    return noise.to(logits.dtype)
