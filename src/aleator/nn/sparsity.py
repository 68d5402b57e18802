"""Control of how many gates are open: a penalty that draws each gate's mean to a target, a controller for rectifiers.

For gates that are open with probability p, with their mean p̄_i over the batch and the target s (equation 14):

    − Σ_i [ s log(p̄_i + ε) + (1 − s) log((1 − p̄_i) + ε) ]

It is a sum over the gates, so its weight λ depends on how many there are, and it draws every gate towards s, not only
their number: look at how decided gates are as well. Rectifiers take λ Σ |g| instead, and λ is moved after every batch
until the share of non-zero gates is within a tolerance of s.

Y. Bengio, N. Léonard, A. Courville, arXiv 1308.3432, equations 14 and 15; the controller is from the authors'
program.
"""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from aleator.nn.global_mean import global_mean


def sparsity_penalty(
    probabilities: Float[Tensor, "batch gates"], target: float, eps: float = 1e-6
) -> Float[Tensor, ""]:
    """Return the cross-entropy between the target and each gate's mean probability, summed over the gates.

    It is computed in float32 at least.

    Args:
        probabilities: p, that a gate is open, for every example; the mean is over the batches of all processes.
        target: s in (0, 1).
        eps: ε.

    Raises:
        ValueError: if the batch is empty or the target is not within (0, 1).
    """
    check_sparsity("target", target)
    if len(probabilities) == 0:
        raise ValueError("probabilities must be of at least one example, got an empty batch")
    mean = global_mean(probabilities)
    # Not ε + 1 − p̄, of which a p̄ near 1 leaves nothing but the rounding of ε + 1.
    return -(target * (mean + eps).log() + (1 - target) * ((1 - mean) + eps).log()).sum()


@dataclass(frozen=True)
class SparsityController:
    """Moves the weight of the penalty on rectifiers by a constant factor until enough of them are zero.

    Attributes:
        target: s, the share of non-zero gates that is wanted.
        tolerance: how far from it nothing is done.
        rate: λ is multiplied by 1 + rate or 1 − rate.
        low: λ is never below it.
        high: λ is never above it.
    """

    target: float
    tolerance: float = 0.01
    rate: float = 0.1
    low: float = 1e-13
    high: float = 1.0

    def __post_init__(self) -> None:
        check_sparsity("target", self.target)

    def __call__(self, weight: Float[Tensor, ""], share: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Return λ for the next batch from λ and the share of non-zero gates in this one, on their device."""
        too_many = (share > self.target + self.tolerance).to(weight.dtype)
        too_few = (share < self.target - self.tolerance).to(weight.dtype)
        return (weight * (1 + self.rate * (too_many - too_few))).clamp(self.low, self.high)


def check_sparsity(name: str, value: float) -> None:
    """Raise ValueError unless the value is within (0, 1)."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must be in (0, 1), got {value}")
