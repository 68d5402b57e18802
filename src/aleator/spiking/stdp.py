"""The symmetric STDP rule: spikes that fall together strengthen a synapse, whichever came first.

Every cell keeps a trace x that decays with tau and gains A at the cell's own spike. At a step with the presynaptic
spikes s_pre and the postsynaptic spikes s_post,

    w_ij ← min(w_ij + nu x_post_j, w_max)   if s_pre_i,    then x_pre_i  ← x_pre_i + A
    w_ij ← min(w_ij + nu x_pre_i,  w_max)   if s_post_j,   then x_post_j ← x_post_j + A

so a pair at the lag L changes the weight by nu A exp(−|L|/tau), and a coincident pair counts once. Nothing is ever
depressed: what keeps weights bounded is `SynapticScaling`. In the authors' words it is STDP under dopamine.

Y. Hao et al., "A Biologically Plausible Supervised Learning Method for Spiking Neural Networks Using the Symmetric STDP
Rule", Neural Networks 121 (2020), arXiv 1812.06574, section 2.3; order of operations as in the authors' program.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class SymmetricSTDP:
    """The rule on whole rasters: returns the weights' change, summed over the batch.

    Weights do not change while the rasters are gone through, as if the change were applied at the end, except that none
    grows above ``w_max``. Any device and type; no gradients.

    Args:
        tau: decay of the traces (ms).
        amplitude: what a spike adds to its cell's trace, A.
        lr: step size nu.
        w_max: no weight grows above it.
        dt: length of a step (ms).
        decay: ``"euler"`` multiplies traces by 1 − dt/tau per step as the authors do, ``"exp"`` by exp(−dt/tau).
        trace_init: the traces before the first step.

    Raises:
        ValueError: if tau or dt is not positive, or Euler steps are longer than tau.

    Example:
        >>> rule = SymmetricSTDP(lr=5e-3)
        >>> change = rule(pre_spikes, post_spikes, weights)
    """

    def __init__(
        self,
        tau: float = 20.0,
        amplitude: float = 0.1,
        lr: float = 5e-3,
        w_max: float = 1.0,
        *,
        dt: float = 0.5,
        decay: Literal["exp", "euler"] = "euler",
        trace_init: float = 0.0,
    ) -> None:
        if not tau > 0:
            raise ValueError(f"tau must be positive, got {tau}")
        if not dt > 0 or (decay == "euler" and dt > tau):
            raise ValueError(f"dt must be in (0, {tau}], the traces' time constant, got {dt}")
        if decay not in ("exp", "euler"):
            raise ValueError(f"decay must be exp or euler, got {decay!r}")
        self.amplitude, self.lr, self.w_max, self.trace_init = amplitude, lr, w_max, trace_init
        self.factor = math.exp(-dt / tau) if decay == "exp" else 1 - dt / tau

    @torch.no_grad()
    def __call__(
        self,
        pre_spikes: Bool[Tensor, "time batch pre"],
        post_spikes: Bool[Tensor, "time batch post"],
        weights: Float[Tensor, "pre post"],
    ) -> Float[Tensor, "pre post"]:
        """Return the change of the weights.

        Args:
            pre_spikes: of the presynaptic cells.
            post_spikes: of the postsynaptic cells.
            weights: as they are; needed for ``w_max``, and not changed.
        """
        total = torch.zeros_like(weights)
        x_pre = torch.full(pre_spikes.shape[1:], self.trace_init, dtype=weights.dtype, device=weights.device)
        x_post = torch.full(post_spikes.shape[1:], self.trace_init, dtype=weights.dtype, device=weights.device)
        for pre, post in zip(pre_spikes.to(weights.dtype), post_spikes.to(weights.dtype), strict=True):
            total += pre.T @ x_post
            x_pre = x_pre + self.amplitude * pre
            total += x_pre.T @ post
            x_post = (x_post + self.amplitude * post) * self.factor
            x_pre = x_pre * self.factor
        return potentiate(weights, self.lr * total, self.w_max) - weights


def potentiate(
    weights: Float[Tensor, "pre post"], change: Float[Tensor, "pre post"], w_max: float
) -> Float[Tensor, "pre post"]:
    """Return weights + change, at most ``w_max`` where there is a change.

    A weight above ``w_max``, as scaling may make it, stays until it is potentiated.
    """
    return torch.where(change > 0, (weights + change).clamp(max=w_max), weights)
