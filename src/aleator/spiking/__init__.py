"""Learning without backpropagation: a spiking classifier trained by symmetric STDP, and the pieces it is made of.

`SymSTDPClassifier` is used like any classifier of scikit-learn. Its network lives in one `SpikingState` and is run by
an `Engine`. `EventEngine` is the reference; `DenseEngine`, `FrozenEngine` and `PrivateEngine` run batches in torch.
`SymmetricSTDP`, `SynapticScaling`, `AdaptiveThreshold`, `PoissonEncoder` and `ConductanceLIF` are the same mathematics,
one piece each, for reading and for other networks.
"""

from typing import TYPE_CHECKING

from aleator.later import later
from aleator.spiking.parameters import Ablation, CellParameters, RuleParameters, SpikingParameters, preset

if TYPE_CHECKING:
    from aleator.spiking.classifier import FitProgress, SampleStats, SymSTDPClassifier
    from aleator.spiking.dense_engine import DenseEngine
    from aleator.spiking.engines import Engine, Phase, Responses
    from aleator.spiking.event_engine import EventEngine, Rasters
    from aleator.spiking.frozen_engine import FrozenEngine
    from aleator.spiking.neurons import ConductanceLIF
    from aleator.spiking.poisson import PoissonEncoder, content_keys, sample_keys
    from aleator.spiking.private_engine import PrivateEngine
    from aleator.spiking.readout import assignment_scores, decide, label_cells
    from aleator.spiking.scaling import SynapticScaling
    from aleator.spiking.state import SpikingState
    from aleator.spiking.stdp import SymmetricSTDP
    from aleator.spiking.threshold import AdaptiveThreshold

__all__ = [
    "Ablation",
    "AdaptiveThreshold",
    "CellParameters",
    "ConductanceLIF",
    "DenseEngine",
    "Engine",
    "EventEngine",
    "FitProgress",
    "FrozenEngine",
    "Phase",
    "PoissonEncoder",
    "PrivateEngine",
    "Rasters",
    "Responses",
    "RuleParameters",
    "SampleStats",
    "SpikingParameters",
    "SpikingState",
    "SymSTDPClassifier",
    "SymmetricSTDP",
    "SynapticScaling",
    "assignment_scores",
    "content_keys",
    "decide",
    "label_cells",
    "preset",
    "sample_keys",
]

# A recipe reads the presets' names without waiting for torch.
__getattr__ = later(
    __name__,
    {
        "AdaptiveThreshold": "threshold",
        "ConductanceLIF": "neurons",
        "DenseEngine": "dense_engine",
        "Engine": "engines",
        "EventEngine": "event_engine",
        "FitProgress": "classifier",
        "Phase": "engines",
        "FrozenEngine": "frozen_engine",
        "PoissonEncoder": "poisson",
        "PrivateEngine": "private_engine",
        "Rasters": "event_engine",
        "Responses": "engines",
        "SampleStats": "classifier",
        "SpikingState": "state",
        "SymSTDPClassifier": "classifier",
        "SymmetricSTDP": "stdp",
        "SynapticScaling": "scaling",
        "assignment_scores": "readout",
        "content_keys": "poisson",
        "decide": "readout",
        "label_cells": "readout",
        "sample_keys": "poisson",
    },
)
