"""The cell of all hidden and class populations: leaky integrate-and-fire, driven by conductances.

    I = Σ_k g_k (E_k − V)                                  (the voltages E_k towards which synapses pull)
    V ← max(V + (V_rest − V + I) dt / tau, floor)          if timer > refractory
    timer ← timer + dt
    spike if V > threshold and timer > refractory;         then V ← V_reset, timer ← 0

With dt = 0.5 ms and 2 ms of rest, a cell that spiked in step n holds V_reset through steps n + 1 … n + 5 and integrates
again from n + 6: the timer is looked at before it advances. A conductance gains a weight when a spike arrives and is
multiplied by exp(−dt/tau_k) after it was used.

Y. Hao et al., arXiv 1812.06574, sections 2.1 and 2.2; order of operations as in the authors' program.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aleator.spiking.parameters import CellParameters


class ConductanceLIF:
    """One Euler step of cells of one kind.

    Args:
        cell: the constants.
        dt: length of a step (ms).

    Raises:
        ValueError: if dt is not in (0, tau].

    Example:
        >>> cells = ConductanceLIF(preset("hao2019-mnist-400").hidden)
        >>> v, timer, spikes = cells(v, timer, [(g_input, 0.0), (g_inhibition, -100.0)], theta - 20.0)
    """

    def __init__(self, cell: CellParameters, dt: float = 0.5) -> None:
        if not 0 < dt <= cell.tau:
            raise ValueError(f"dt must be in (0, {cell.tau}], the membrane's time constant, got {dt}")
        self.cell, self.dt = cell, dt

    @torch.no_grad()
    def __call__(
        self,
        v: Float[Tensor, "*cells"],
        timer: Float[Tensor, "*cells"],
        synapses: Sequence[tuple[Float[Tensor, "*cells"], float]],
        raised: Float[Tensor, "*cells"] | float = 0.0,
    ) -> tuple[Float[Tensor, "*cells"], Float[Tensor, "*cells"], Bool[Tensor, "*cells"]]:
        """Return voltage, timer and spikes after a step.

        Args:
            v: voltage (mV).
            timer: time since the last spike (ms).
            synapses: conductance and reversal voltage (mV) of every kind of input.
            raised: what is added to the threshold (mV).
        """
        cell = self.cell
        current = cell.rest - v
        for g, reversal in synapses:
            current = current + g * (reversal - v)
        v = torch.where(timer > cell.refractory, v + current * (self.dt / cell.tau), v).clamp(min=cell.floor)
        timer = timer + self.dt
        spikes = (v > raised + cell.threshold) & (timer > cell.refractory)
        return v.masked_fill(spikes, cell.reset), timer.masked_fill(spikes, 0.0), spikes
