"""Learning without backpropagation: a spiking classifier trained by symmetric STDP."""

from aleator.spiking.parameters import Ablation, CellParameters, RuleParameters, SpikingParameters, preset

__all__ = [
    "Ablation",
    "CellParameters",
    "RuleParameters",
    "SpikingParameters",
    "preset",
]
