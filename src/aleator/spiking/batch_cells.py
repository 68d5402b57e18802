"""Hidden and class cells of a network for any number of samples side by side: what is no plasticity in a step.

Weights are not in here. An engine says what the spikes of the last step bring (`arrive`) and lets the cells advance
(`advance`); in between it may learn. Lateral inhibition is rank one: an I cell reaches every E cell but its partner,
so what E_j receives is the number of I spikes without I_j's own.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aleator.spiking.neurons import ConductanceLIF
from aleator.spiking.parameters import SpikingParameters
from aleator.spiking.state import SpikingState

_FIELDS = (
    *("v_hidden", "v_inhibitory", "v_class", "timer_hidden", "timer_inhibitory"),
    *("g_input", "g_inhibition", "g_partner", "g_class"),
    *("spikes_hidden", "spikes_inhibitory", "spikes_class"),
)


class BatchCells:
    """The dynamic fields of `SpikingState` with batch dimensions in front; copies, so the state stays as it is.

    Args:
        state: from which every sample starts.
        parameters: the constants.
        batch: sizes of the batch dimensions, () for none.
    """

    def __init__(self, state: SpikingState, parameters: SpikingParameters, batch: tuple[int, ...]) -> None:
        def copied(field: Tensor) -> Tensor:
            return field.expand(*batch, -1).clone()

        p = self.parameters = parameters
        self.v_hidden, self.timer_hidden = copied(state.v_hidden), copied(state.timer_hidden)
        self.v_inhibitory, self.timer_inhibitory = copied(state.v_inhibitory), copied(state.timer_inhibitory)
        self.v_class = copied(state.v_class)
        self.g_input, self.g_inhibition = copied(state.g_input), copied(state.g_inhibition)
        self.g_partner, self.g_class = copied(state.g_partner), copied(state.g_class)
        self.spikes_hidden, self.spikes_inhibitory = copied(state.spikes_hidden), copied(state.spikes_inhibitory)
        self.spikes_class = copied(state.spikes_class)
        self._timer_class = torch.full_like(self.v_class, math.inf)  # they never rest
        self._cells = [ConductanceLIF(cell, p.dt) for cell in (p.hidden, p.inhibitory, p.classes)]
        self._decays = [math.exp(-p.dt / tau) for tau in (p.tau_excitation, p.tau_inhibition)]

    def arrive(
        self,
        drive: Float[Tensor, "*batch hidden"] | None,
        weights_out: Float[Tensor, "hidden classes"] | None,
    ) -> None:
        """Raise the conductances by the spikes of the last step.

        Args:
            drive: the weights of the inputs that spiked, summed; None if there are none.
            weights_out: of the class cells; None if nobody listens to them, in training.
        """
        dtype = self.g_input.dtype
        if drive is not None:
            self.g_input += drive
        hidden, partners = self.spikes_hidden.to(dtype), self.spikes_inhibitory.to(dtype)
        self.g_partner.add_(hidden, alpha=self.parameters.excitation)
        others = partners.sum(-1, keepdim=True) - partners
        self.g_inhibition.add_(others, alpha=self.parameters.inhibition)
        if weights_out is not None:
            self.g_class += hidden @ weights_out

    def advance(self, theta: Float[Tensor, "*#batch hidden"], classes: bool) -> None:
        """Make a step: voltages, spikes, decay of the conductances.

        Args:
            theta: adaptive part of the thresholds, one for all samples or one each.
            classes: whether class cells advance; in training the teacher moves them.
        """
        p = self.parameters
        excitation, inhibition = p.reversal_excitation, p.reversal_inhibition
        hidden, inhibitory, class_cell = self._cells
        synapses = [(self.g_input, excitation), (self.g_inhibition, inhibition)]
        self.v_hidden, self.timer_hidden, self.spikes_hidden = hidden(
            self.v_hidden, self.timer_hidden, synapses, (theta - p.theta_offset).expand_as(self.v_hidden)
        )
        self.v_inhibitory, self.timer_inhibitory, self.spikes_inhibitory = inhibitory(
            self.v_inhibitory, self.timer_inhibitory, [(self.g_partner, excitation)]
        )
        if classes:
            synapses = [(self.g_class, excitation)]
            self.v_class, _, self.spikes_class = class_cell(self.v_class, self._timer_class, synapses)
        self.g_input *= self._decays[0]
        self.g_inhibition *= self._decays[1]
        self.g_partner *= self._decays[0]
        self.g_class *= self._decays[0]

    def take(self, samples: Bool[Tensor, " batch"]) -> None:
        """Keep these samples and drop the others."""
        for name in _FIELDS:
            setattr(self, name, getattr(self, name)[samples])
        self._timer_class = self._timer_class[samples]

    def store(self, state: SpikingState) -> None:
        """Write the cells of a batch without dimensions into a state."""
        for name in _FIELDS:
            getattr(state, name).copy_(getattr(self, name))
