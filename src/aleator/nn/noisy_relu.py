"""The noisy rectifier: noise is injected before the rectifier, and backpropagation takes its ordinary course.

    h = max(0, a + z),    dh/da = 1[a + z > 0]

The unit is off at random, and sparse where a is low. For logistic noise P(h > 0) = σ(a) and E[h] = softplus(a); for
Gaussian noise of deviation s these are Φ(a/s) and a Φ(a/s) + s φ(a/s). The gradient has no bias.

Y. Bengio, N. Léonard, A. Courville, arXiv 1308.3432, section 3.1; Gaussian noise is what the experiments there have.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from aleator.nn.gate_estimator import GateEstimator, in_full_precision, uniforms


def noisy_relu(
    a: Float[Tensor, "*units"],
    std: float = 1.0,
    noise: Literal["gaussian", "logistic"] | Float[Tensor, "*units"] = "gaussian",
    *,
    generator: torch.Generator | None = None,
) -> Float[Tensor, "*units"]:
    """Return max(0, a + z).

    Args:
        a: pre-activations.
        std: standard deviation of Gaussian noise, or the scale of logistic noise, whose deviation is 1.81 times that.
            0 is a plain rectifier.
        noise: the distribution of z, or z itself.
        generator: see `GateEstimator`.

    Raises:
        ValueError: if a pre-activation is not finite, ``std`` negative, the distribution unknown or the noise of
            another shape.
        TypeError: if the pre-activations are not of a floating-point type.
    """
    _check(std, "gaussian" if isinstance(noise, Tensor) else noise)
    full = in_full_precision(a)
    if isinstance(noise, Tensor):
        z = uniforms(full, None, noise)
    elif std == 0:
        z = torch.zeros_like(full)
    elif noise == "gaussian":
        z = std * torch.randn(full.shape, generator=generator, dtype=full.dtype, device=full.device)
    else:
        # Uniforms can be 0, whose logit is infinite.
        z = std * uniforms(full, generator, None).clamp(min=torch.finfo(full.dtype).tiny).logit()
    return (full + z).relu().to(a.dtype)


@dataclass(frozen=True)
class NoisyReLU(GateEstimator):
    """`noisy_relu` as an object; its gates have any size, and it is not on where a + z ≤ 0."""

    std: float = 1.0
    noise: Literal["gaussian", "logistic"] = "gaussian"

    binary: ClassVar[bool] = False
    discrete: ClassVar[bool] = False
    gradient_when_off: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check(self.std, self.noise)

    def __call__(
        self,
        logits: Float[Tensor, "*units"],
        *,
        generator: torch.Generator | None = None,
        noise: Float[Tensor, "*units"] | None = None,
    ) -> Float[Tensor, "*units"]:
        """See `noisy_relu`; the noise is z."""
        return noisy_relu(logits, self.std, self.noise if noise is None else noise, generator=generator)

    def probability(self, logits: Float[Tensor, "*units"]) -> Float[Tensor, "*units"]:
        """Return Φ(a/s), or σ(a/s) for logistic noise; without noise 1[a > 0]."""
        if self.std == 0:
            return (logits > 0).to(logits.dtype)
        if self.noise == "logistic":
            return (logits / self.std).sigmoid()
        return torch.erfc(-logits / (self.std * math.sqrt(2))) / 2

    def magnitude(self, logits: Float[Tensor, "*units"]) -> Float[Tensor, "*units"]:
        """Return max(0, a)."""
        return logits.relu()


def _check(std: float, noise: str) -> None:
    if not 0 <= std < math.inf:
        raise ValueError(f"std must not be negative and must be finite, got {std}")
    if noise not in ("gaussian", "logistic"):
        raise ValueError(f"noise must be 'gaussian', 'logistic' or a tensor, got {noise!r}")
