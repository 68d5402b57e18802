"""The compiled loops, each called once: importing this compiles what numba's cache does not hold, and loads the rest.

Compiling takes half a minute and loading two seconds, so one process compiles while the others wait for its lock, and
children are forked from a process that has loaded.
"""

import numpy as np
import torch

from aleator.random import random_bits
from aleator.spiking import EventEngine, SpikingState, preset, sample_keys

parameters = preset("hao2019-mnist-100").replace(stimulus=1.0, rest=0.5, intensity_max=2)
state = SpikingState.initial(2, 2, 2, parameters, torch.Generator().manual_seed(0))
engine = EventEngine(parameters)
engine.train(state, np.zeros((1, 2)), np.zeros(1, np.int64), sample_keys(0, "train", 0, 1), "both")
engine.evaluate(state, np.zeros((1, 2)), sample_keys(0, "evaluate", 0, 1))
engine.simulate(state, torch.zeros(1, 2, dtype=torch.bool))
large = SpikingState.initial(2, 1024, 2, parameters.replace(trace_init=0.0), torch.Generator().manual_seed(0))
rested = large.rested(parameters)  # so that it has a crowd
engine.train(rested, np.zeros((1, 2)), np.zeros(1, np.int64), sample_keys(0, "train", 0, 1), "both")
random_bits((0, 0, 0, 0), 0, range(4))
