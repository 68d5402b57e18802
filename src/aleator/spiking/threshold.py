"""The adaptive threshold: a cell that spikes often becomes harder to excite.

    every step     theta ← theta (1 − dt / tau)
    every spike    theta ← theta + step (offset − pole) / |theta − pole|

so a gain equals ``step`` at theta = offset and falls as theta grows. A cell spikes above V_th + theta − offset.

One step's decay with tau = 2·10⁷ ms is less than half a unit in the last place of float32: in the authors' single
precision theta never decays then. That is ``tau=math.inf`` here. With their shorter taus, 6 and 8·10⁶ ms, it decays
there by 0.7 to 1.8 times what it should, by where theta lies between two powers of two. Here the factor of many steps
is computed in double precision and applied at once, and a theta in double precision may be stepped singly.

Y. Hao et al., arXiv 1812.06574, equation 5; ``step`` is the α dt / tau_θ of the paper.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

NEAREST_TO_POLE = 1e-3  # our guard: theta starts 10 above the pole and never comes near


class AdaptiveThreshold:
    """The recursion of theta.

    Args:
        step: gain at theta = offset, not negative (mV).
        tau: time constant of the decay (ms); infinite for no decay.
        offset: what is taken off theta in the spike test (mV).
        pole: where the gain would be infinite (mV).
        dt: length of a step (ms).

    Raises:
        ValueError: if the step is negative or tau is below dt.

    Example:
        >>> adaptive = AdaptiveThreshold()
        >>> theta = adaptive.gained(adaptive.decayed(theta, 1), spikes)
    """

    def __init__(
        self, step: float = 0.07, tau: float = 6e6, offset: float = 20.0, pole: float = 10.0, *, dt: float = 0.5
    ) -> None:
        if not step >= 0:
            raise ValueError(f"step must not be negative, got {step}")
        if not 0 < dt <= tau:
            raise ValueError(f"dt must be in (0, {tau}], the time constant, got {dt}")
        self.step, self.offset, self.pole, self.factor = step, offset, pole, 1 - dt / tau

    @torch.no_grad()
    def decayed(self, theta: Float[Tensor, "*shape"], steps: int) -> Float[Tensor, "*shape"]:
        """Return theta after a number of steps without spikes.

        In single precision, decay once per sample rather than once per step, see the module.
        """
        return (theta.double() * self.factor**steps).to(theta.dtype)

    @torch.no_grad()
    def gained(self, theta: Float[Tensor, "*shape"], spikes: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return theta after spikes, 0 or 1 per cell; a number of spikes counts as that many at the theta given."""
        distance = (theta - self.pole).abs().clamp(min=NEAREST_TO_POLE)
        return theta + spikes * (self.step * (self.offset - self.pole) / distance)
