"""Every constant of the symmetric-STDP network, and the authors' settings by name.

Times are in milliseconds, voltages in millivolts, rates in hertz; conductances have no unit. The network is

    input (Poisson) ──plastic──> hidden E ──plastic──> class cells
                                 E_i → I_i one to one;  I_i → every E_j, j ≠ i

Targets of the synaptic scaling are given per incoming synapse, so that a network of another size has the same drive:
a hidden cell's weights sum to ``input_rule.target · N_in``, a class cell's to ``class_rule.target · N_h``.

Y. Hao, X. Huang, M. Dong, B. Xu, "A Biologically Plausible Supervised Learning Method for Spiking Neural Networks Using
the Symmetric STDP Rule", Neural Networks 121 (2020), arXiv 1812.06574. The numbers are from the authors' program.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

Ablation = Literal["input_scaling", "class_scaling", "adaptive_threshold", "lateral_inhibition", "symmetry"]


@dataclass(frozen=True)
class CellParameters:
    """A leaky integrate-and-fire cell, see `aleator.spiking.ConductanceLIF`.

    Attributes:
        tau: time constant of the membrane (ms).
        rest: voltage without input (mV).
        reset: voltage after a spike (mV). For inhibitory and class cells it lies above ``rest``, as in the program.
        threshold: a cell whose voltage is above it spikes (mV).
        refractory: how long a cell rests after a spike (ms); negative for cells that never rest.
        floor: the voltage is never below it (mV).
    """

    tau: float
    rest: float
    reset: float
    threshold: float
    refractory: float
    floor: float = -math.inf


@dataclass(frozen=True)
class RuleParameters:
    """A plastic projection: the rule of `aleator.spiking.SymmetricSTDP`, and the scaling of its weights.

    Attributes:
        lr: step size nu of both halves of the rule.
        w_max: no potentiation goes above it.
        target: sum of a cell's incoming weights per incoming synapse, set before every presentation; None leaves them.
    """

    lr: float
    w_max: float
    target: float | None


@dataclass(frozen=True)
class SpikingParameters:
    """The constants of a network, whatever its size. `preset` returns the authors'.

    Attributes:
        dt: length of a step (ms).
        stimulus: how long a sample is shown (ms).
        rest: silence after it, with plasticity (ms).
        hidden: the excitatory hidden cells E. Their threshold is ``threshold + theta − theta_offset``.
        inhibitory: their partners I.
        classes: the class cells SL.
        input_rule: input → E.
        class_rule: E → SL.
        symmetric: False makes a presynaptic spike depress, −nu·x_post not below 0, as in ordinary STDP.
        excitation: weight of E_i → I_i.
        inhibition: weight of I_i → E_j, j ≠ i.
        reversal_excitation: voltage towards which excitation pulls (mV).
        reversal_inhibition: voltage towards which inhibition pulls (mV).
        tau_excitation: decay of the conductances input → E, E → I and E → SL (ms).
        tau_inhibition: decay of the conductance I → E (ms).
        tau_trace: decay of all traces (ms).
        trace_step: what a trace gains at its cell's spike, A.
        trace_init: all traces at the beginning.
        theta_init: adaptive part of the threshold at the beginning (mV).
        theta_offset: what is taken off it in the spike test (mV).
        theta_step: gain of theta at a spike, at ``theta = theta_offset``; it falls as theta leaves ``theta_pole``.
        theta_pole: where the gain would be infinite (mV), see `aleator.spiking.AdaptiveThreshold`.
        tau_theta: decay of theta (ms). From 2·10⁷ on, the authors' single precision does not resolve it in a step, and
            their thresholds never decay; that is ``math.inf`` here.
        weight_init: weights begin uniform in {0, 0.001, …} below it.
        rate_per_grey: spike rate of a pixel per grey level of 0…255 and unit of intensity (Hz).
        intensity: k of the first presentation of a sample.
        intensity_max: a silent sample is shown again with k + 1 while k is below it.
        min_spikes: hidden spikes during a presentation below which the sample counts as silent.
        teacher_rate: rate of the right class cell in training (Hz).
        mean_grey: images are multiplied to have this mean and cut at 255; None leaves them (MNIST).
    """

    dt: float = 0.5
    stimulus: float = 350.0
    rest: float = 150.0
    hidden: CellParameters = CellParameters(100.0, -65.0, -65.0, -52.0, 2.0, floor=-100.0)
    inhibitory: CellParameters = CellParameters(10.0, -60.0, -45.0, -40.0, 2.0)
    classes: CellParameters = CellParameters(10.0, -60.0, -45.0, -40.0, -math.inf)
    input_rule: RuleParameters = RuleParameters(lr=0.005, w_max=1.0, target=0.1)
    class_rule: RuleParameters = RuleParameters(lr=0.04, w_max=8.0, target=0.8)
    symmetric: bool = True
    excitation: float = 10.4
    inhibition: float = 17.0
    reversal_excitation: float = 0.0
    reversal_inhibition: float = -100.0
    tau_excitation: float = 1.0
    tau_inhibition: float = 2.0
    tau_trace: float = 20.0
    trace_step: float = 0.1
    trace_init: float = 1.0
    theta_init: float = 20.0
    theta_offset: float = 20.0
    theta_step: float = 0.07
    theta_pole: float = 10.0
    tau_theta: float = 6e6
    weight_init: float = 0.3
    rate_per_grey: float = 1 / 8
    intensity: int = 2
    intensity_max: int = 32
    min_spikes: int = 5
    teacher_rate: float = 200.0
    mean_grey: float | None = None

    def __post_init__(self) -> None:
        cells = (self.hidden, self.inhibitory, self.classes)
        every: list[tuple[str, Any]] = [("", self), *zip(("hidden.", "inhibitory.", "classes."), cells, strict=True)]
        for prefix, constants in every:
            for field in dataclasses.fields(constants):
                value = getattr(constants, field.name)
                if isinstance(value, float) and math.isnan(value):
                    raise ValueError(f"{prefix}{field.name} must be a number, got nan")
        shortest = min(self.tau_excitation, self.tau_inhibition, self.tau_trace, *(cell.tau for cell in cells))
        if not 0 < self.dt <= shortest:
            raise ValueError(f"dt must be in (0, {shortest}], the shortest time constant, got {self.dt}")
        if not self.tau_theta >= self.dt:
            raise ValueError(f"tau_theta must be at least dt, or infinite for no decay, got {self.tau_theta}")
        for name, rule in (("input_rule", self.input_rule), ("class_rule", self.class_rule)):
            if not 0 <= rule.lr < math.inf:
                raise ValueError(f"{name}.lr must not be negative and must be finite, got {rule.lr}")
            if not rule.w_max > 0:
                raise ValueError(f"{name}.w_max must be positive, got {rule.w_max}")
            if rule.target is not None and not 0 < rule.target < math.inf:
                raise ValueError(
                    f"{name}.target must be positive and finite, or None for no scaling, got {rule.target}"
                )
        for name in ("trace_step", "trace_init"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, got {getattr(self, name)}")
        if not (self.stimulus >= self.dt and self.rest >= 0):
            raise ValueError(
                f"stimulus must be at least dt and rest not negative, got {self.stimulus} and {self.rest} ms"
            )
        fastest = max(255 * self.rate_per_grey * max(self.intensity, self.intensity_max), self.teacher_rate)
        if fastest * self.dt / 1000 > 1:
            raise ValueError(f"rate times dt must be at most 1, got {fastest} Hz times {self.dt} ms")

    @property
    def stimulus_steps(self) -> int:
        """Number of steps that a sample is shown."""
        return round(self.stimulus / self.dt)

    @property
    def rest_steps(self) -> int:
        """Number of steps of the silence after it."""
        return round(self.rest / self.dt)

    def replace(self, **changes: Any) -> SpikingParameters:
        """Return these parameters with some of them changed.

        Raises:
            ValueError: if there is no such parameter.
        """
        names = [own.name for own in dataclasses.fields(self)]
        for name in changes:
            if name not in names:
                close = difflib.get_close_matches(name, names, 1)
                hint = f"; did you mean {close[0]}?" if close else ""
                raise ValueError(f"parameter must be one of {', '.join(names)}, got {name}{hint}")
        return dataclasses.replace(self, **changes)

    def without(self, *ablations: Ablation) -> SpikingParameters:
        """Return these parameters with parts of the method taken out.

        Args:
            ablations: ``"input_scaling"`` and ``"class_scaling"`` leave the weights of a projection unscaled,
                ``"adaptive_threshold"`` holds theta, ``"lateral_inhibition"`` cuts I → E, and ``"symmetry"`` lets a
                presynaptic spike depress.

        Raises:
            ValueError: if there is no such part.
        """
        changes: dict[str, dict[str, Any]] = {
            "input_scaling": {"input_rule": dataclasses.replace(self.input_rule, target=None)},
            "class_scaling": {"class_rule": dataclasses.replace(self.class_rule, target=None)},
            "adaptive_threshold": {"theta_step": 0.0, "tau_theta": math.inf},
            "lateral_inhibition": {"inhibition": 0.0},
            "symmetry": {"symmetric": False},
        }
        result = self
        for name in ablations:
            if name not in changes:
                raise ValueError(f"ablation must be one of {', '.join(get_args(Ablation))}, got {name!r}")
            result = dataclasses.replace(result, **changes[name])
        return result


_MNIST = SpikingParameters()


def _mnist(lr_in: float, lr_class: float, theta_step: float, tau_theta: float) -> SpikingParameters:
    return _MNIST.replace(
        input_rule=RuleParameters(lr_in, 1.0, 0.1),
        class_rule=RuleParameters(lr_class, 8.0, 0.8),
        theta_step=theta_step,
        tau_theta=tau_theta,
    )


PRESETS = {
    "hao2019-mnist-100": _MNIST,
    "hao2019-mnist-400": _MNIST,
    "hao2019-mnist-1600": _mnist(0.02, 0.08, 0.07, 8e6),
    "hao2019-mnist-6400": _mnist(0.01, 0.04, 0.05, 2e7),
    "hao2019-mnist-10000": _mnist(0.0075, 0.04, 0.05, 2e7),
    "hao2019-fashion-400": _MNIST.replace(
        hidden=dataclasses.replace(_MNIST.hidden, threshold=-60.0),
        input_rule=RuleParameters(0.02, 1.0, 0.025),
        class_rule=RuleParameters(0.32, 40.0, 2.0),
        theta_step=0.05,
        tau_theta=5e7,
        mean_grey=30.0,
    ),
    "hao2019-fashion-6400": _MNIST.replace(
        input_rule=RuleParameters(0.0005, 1.0, 0.025),
        class_rule=RuleParameters(0.08, 8.0, 0.8),
        theta_step=0.05,
        tau_theta=2e7,
        mean_grey=30.0,
    ),
}


def preset(name: str) -> SpikingParameters:
    """Return the authors' settings for a data set and a number of hidden cells.

    The number of cells is only the one they were tuned for: ``hao2019-mnist-400`` serves other sizes and data as well.

    Raises:
        ValueError: if there is no such preset.
    """
    if name not in PRESETS:
        raise ValueError(f"preset must be one of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]
