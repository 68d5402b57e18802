"""Everything that a spiking network carries from one step to the next, in one container.

    input i  ──weights_in [N_in, N_h]──>  E_j  ──weights_out [N_h, N_c]──>  class cell c
    g_input [N_h]: input → E       g_inhibition [N_h]: I → E
    g_partner [N_h]: E → I         g_class [N_c]: E → class cells

The fields are torch tensors, float64 unless told otherwise; those on the CPU share their memory with the NumPy views
that compiled kernels work on. Lateral inhibition is rank one (an I cell reaches every E cell but its partner), so there
is no N_h × N_h matrix.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from aleator.spiking.parameters import SpikingParameters

# Set by learning and left alone by inference. The others are where the cells are in their dynamics.
LEARNED = ("weights_in", "weights_out", "theta", "x_input", "x_hidden_post", "x_hidden_pre", "x_class")

# The size of every field, in the names of the properties below.
_IN, _HIDDEN, _CLASSES = ("n_in",), ("n_hidden",), ("n_classes",)
_SIZES = {
    "weights_in": _IN + _HIDDEN,
    "weights_out": _HIDDEN + _CLASSES,
    **dict.fromkeys(("theta", "v_hidden", "v_inhibitory", "timer_hidden", "timer_inhibitory"), _HIDDEN),
    **dict.fromkeys(("g_input", "g_inhibition", "g_partner", "x_hidden_post", "x_hidden_pre"), _HIDDEN),
    **dict.fromkeys(("spikes_hidden", "spikes_inhibitory"), _HIDDEN),
    **dict.fromkeys(("v_class", "g_class", "x_class", "spikes_class"), _CLASSES),
    **dict.fromkeys(("x_input", "spikes_input"), _IN),
}


@dataclass
class SpikingState:
    """The state of a network, see the module.

    Attributes:
        weights_in: input → E; a row holds the weights of one input, contiguous in memory.
        weights_out: E → class cells.
        theta: adaptive part of the E threshold (mV).
        v_hidden: voltage of E (mV).
        v_inhibitory: voltage of I (mV).
        v_class: voltage of the class cells (mV).
        timer_hidden: time since the last spike of E (ms).
        timer_inhibitory: time since the last spike of I (ms).
        g_input: conductance input → E.
        g_inhibition: conductance I → E.
        g_partner: conductance E → I.
        g_class: conductance E → class cells.
        x_input: trace of the inputs, for input → E.
        x_hidden_post: trace of E, for input → E.
        x_hidden_pre: trace of E, for E → class cells.
        x_class: trace of the class cells.
        spikes_input: spikes of the last step, which the next one delivers.
        spikes_hidden: of E.
        spikes_inhibitory: of I.
        spikes_class: of the class cells, in training the teacher's.
    """

    weights_in: Float[Tensor, "inputs hidden"]
    weights_out: Float[Tensor, "hidden classes"]
    theta: Float[Tensor, " hidden"]
    v_hidden: Float[Tensor, " hidden"]
    v_inhibitory: Float[Tensor, " hidden"]
    v_class: Float[Tensor, " classes"]
    timer_hidden: Float[Tensor, " hidden"]
    timer_inhibitory: Float[Tensor, " hidden"]
    g_input: Float[Tensor, " hidden"]
    g_inhibition: Float[Tensor, " hidden"]
    g_partner: Float[Tensor, " hidden"]
    g_class: Float[Tensor, " classes"]
    x_input: Float[Tensor, " inputs"]
    x_hidden_post: Float[Tensor, " hidden"]
    x_hidden_pre: Float[Tensor, " hidden"]
    x_class: Float[Tensor, " classes"]
    spikes_input: Bool[Tensor, " inputs"]
    spikes_hidden: Bool[Tensor, " hidden"]
    spikes_inhibitory: Bool[Tensor, " hidden"]
    spikes_class: Bool[Tensor, " classes"]

    @classmethod
    def initial(
        cls, n_in: int, n_hidden: int, n_classes: int, parameters: SpikingParameters, generator: torch.Generator
    ) -> SpikingState:
        """Return a network that has not learned: random weights, voltages 40 mV below rest, traces at their start.

        Args:
            n_in: number of inputs.
            n_hidden: number of hidden cells E, and of their partners I.
            n_classes: number of class cells.
            parameters: the constants.
            generator: of the weights, {0, 0.001, …} below ``weight_init``, input → E first.

        Raises:
            ValueError: if a number of cells is below 1, or there is one hidden cell and lateral inhibition.
        """
        for name, size in (("n_in", n_in), ("n_hidden", n_hidden), ("n_classes", n_classes)):
            if size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        if n_hidden < 2 and parameters.inhibition:
            raise ValueError(f"n_hidden must be at least 2 with lateral inhibition, got {n_hidden}")

        def weights(*shape: int) -> Tensor:
            return torch.randint(round(parameters.weight_init * 1000), shape, generator=generator).double() / 1000

        def full(size: int, value: float) -> Tensor:
            return torch.full((size,), value, dtype=torch.float64)

        def silent(size: int) -> Tensor:
            return torch.zeros(size, dtype=torch.bool)

        trace = parameters.trace_init
        return cls(
            weights_in=weights(n_in, n_hidden),
            weights_out=weights(n_hidden, n_classes),
            theta=full(n_hidden, parameters.theta_init),
            v_hidden=full(n_hidden, parameters.hidden.rest - 40),
            v_inhibitory=full(n_hidden, parameters.inhibitory.rest - 40),
            v_class=full(n_classes, parameters.classes.rest - 40),
            timer_hidden=full(n_hidden, 10.0),
            timer_inhibitory=full(n_hidden, 10.0),
            g_input=full(n_hidden, 0.0),
            g_inhibition=full(n_hidden, 0.0),
            g_partner=full(n_hidden, 0.0),
            g_class=full(n_classes, 0.0),
            x_input=full(n_in, trace),
            x_hidden_post=full(n_hidden, trace),
            x_hidden_pre=full(n_hidden, trace),
            x_class=full(n_classes, trace),
            spikes_input=silent(n_in),
            spikes_hidden=silent(n_hidden),
            spikes_inhibitory=silent(n_hidden),
            spikes_class=silent(n_classes),
        )

    @property
    def n_in(self) -> int:
        """Number of inputs."""
        return self.weights_in.shape[0]

    @property
    def n_hidden(self) -> int:
        """Number of hidden cells."""
        return self.weights_in.shape[1]

    @property
    def n_classes(self) -> int:
        """Number of class cells."""
        return self.weights_out.shape[1]

    def check(self) -> None:
        """Check that the fields belong to one network. Engines do so before every call of a compiled loop.

        Raises:
            ValueError: if a field has another shape than the weights say, or another type than the other fields.
        """
        for name in ("weights_in", "weights_out"):
            if getattr(self, name).ndim != 2:
                raise ValueError(f"{name} must be a matrix, got the shape {tuple(getattr(self, name).shape)}")
        for name, value in self._items():
            shape = tuple(getattr(self, size) for size in _SIZES[name])
            dtype = torch.bool if name.startswith("spikes") else self.weights_in.dtype
            if value.shape != shape or value.dtype != dtype:
                got = f"{value.dtype} of the shape {tuple(value.shape)}"
                raise ValueError(f"{name} must be {dtype} of the shape {shape}, got {got}")

    def rested(self, parameters: SpikingParameters) -> SpikingState:
        """Return a state that shares what was learned with this one, and whose cells have long been silent.

        Voltages are at rest, nobody is refractory, conductances are 0 and no spike is under way.
        """
        cells = {name: torch.zeros_like(value) for name, value in self._items() if name not in LEARNED}
        cells["v_hidden"].fill_(parameters.hidden.rest)
        cells["v_inhibitory"].fill_(parameters.inhibitory.rest)
        cells["v_class"].fill_(parameters.classes.rest)
        cells["timer_hidden"].fill_(10.0)
        cells["timer_inhibitory"].fill_(10.0)
        return dataclasses.replace(self, **cells)

    def clone(self) -> SpikingState:
        """Return a copy that shares nothing."""
        return SpikingState(**{name: value.clone() for name, value in self._items()})

    def to(self, device: torch.device | str, dtype: torch.dtype = torch.float64) -> SpikingState:
        """Return the state on a device; what is there already, in that type, is shared."""
        return SpikingState(
            **{name: value.to(device, dtype if value.is_floating_point() else None) for name, value in self._items()}
        )

    def state_dict(self) -> dict[str, Tensor]:
        """Return copies of all fields."""
        return {name: value.clone() for name, value in self._items()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy the fields of `state_dict` into this state's tensors.

        Raises:
            ValueError: if a field is missing, has another shape, or weights are not finite.
        """
        for name, value in self._items():
            if name not in state or state[name].shape != value.shape:
                got = tuple(state[name].shape) if name in state else "nothing"
                raise ValueError(f"{name} must have the shape {tuple(value.shape)}, got {got}")
            if value.is_floating_point() and not torch.isfinite(state[name]).all():
                raise ValueError(f"{name} must be finite, got NaN or infinity")
        for name, value in self._items():
            value.copy_(state[name])

    def _items(self) -> list[tuple[str, Tensor]]:
        return [(own.name, getattr(self, own.name)) for own in dataclasses.fields(self)]
