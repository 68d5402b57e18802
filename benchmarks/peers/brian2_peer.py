"""The hidden layer in Brian2, compiled by cython, on a given raster, learning on; see the package for the protocol.

Runs in the peer's environment. Excitatory and inhibitory cells with conductances, adaptive thresholds and the symmetric
rule, in steps of 0.5 ms. Traces live in the cells, which is much faster than in the synapses. The class cells are left
out, in the peer's favour, and its preparation of a run is not timed.
"""

import json
import sys
import time

import brian2
import numpy as np
from brian2 import Network, NeuronGroup, Synapses, TimedArray, ms, prefs

path, hidden, batch, chunk = sys.argv[1], *map(int, sys.argv[2:])
prefs.codegen.target = "cython"
brian2.defaultclock.dt = 0.5 * ms
brian2.seed(0)
spikes = np.load(path)
samples, steps, inputs = spikes.shape
raster = TimedArray(spikes.reshape(samples * steps, inputs).astype(float), dt=0.5 * ms)
period = samples * steps * 0.5 * ms

source = NeuronGroup(
    inputs, "dx/dt = -x / (20*ms) : 1", threshold="raster(t % period, i) > 0", reset="x += 0.1", method="exact"
)
cells = NeuronGroup(
    hidden,
    """dv/dt = (-65 - v - ge * v - gi * (v + 100)) / (100*ms) : 1 (unless refractory)
    dge/dt = -ge / (1*ms) : 1
    dgi/dt = -gi / (2*ms) : 1
    dx/dt = -x / (20*ms) : 1
    dtheta/dt = -theta / (6e6*ms) : 1""",
    threshold="v > theta - 72",
    reset="v = -65; x += 0.1; theta += 0.7 / abs(theta - 10)",
    refractory=2 * ms,
    method="exponential_euler",
)
inhibitors = NeuronGroup(
    hidden,
    """dv/dt = (-60 - v - ge * v) / (10*ms) : 1 (unless refractory)
    dge/dt = -ge / (1*ms) : 1""",
    threshold="v > -40",
    reset="v = -45",
    refractory=2 * ms,
    method="exponential_euler",
)
cells.v, cells.theta, inhibitors.v = -100, 20, -100
plastic = Synapses(
    source,
    cells,
    "w : 1",
    on_pre="ge_post += w; w = clip(w + 0.005 * x_post, 0, 1)",
    on_post="w = clip(w + 0.005 * x_pre, 0, 1)",
)
plastic.connect()
plastic.w = "rand() * 0.3"
plastic.w = plastic.w * 78.4 / (0.15 * inputs)
excite = Synapses(cells, inhibitors, on_pre="ge_post += 10.4")
excite.connect(j="i")
inhibit = Synapses(inhibitors, cells, on_pre="gi_post += 17")
inhibit.connect(condition="i != j")
network = Network(source, cells, inhibitors, plastic, excite, inhibit)


def simulate():
    """Simulate the next samples and return the seconds of their steps."""
    times = []  # at the beginning and the end of the steps

    def mark(*progress):
        times.append(time.process_time())

    network.run(chunk * steps * 0.5 * ms, report=mark, report_period=1e6 * brian2.second)
    return times[-1] - times[0]


simulate()  # compiles
print(json.dumps({"version": brian2.__version__}), flush=True)
for _ in sys.stdin:
    print(json.dumps({"seconds": simulate()}), flush=True)
