"""BindsNET's DiehlAndCook2015 on a given raster, learning on; see the package for the protocol.

Runs in the peer's environment. BindsNET's package imports its data sets and plots, and with them torchvision. Models
and simulation need neither: the package is entered without its ``__init__``.
"""

import importlib.metadata
import importlib.util
import json
import sys
import time
import types

import numpy as np
import torch

package = types.ModuleType("bindsnet")
package.__path__ = list(importlib.util.find_spec("bindsnet").submodule_search_locations)
sys.modules["bindsnet"] = package

import bindsnet.network  # noqa: E402, F401  # before the models, or they import each other in a circle
from bindsnet.models import DiehlAndCook2015  # noqa: E402

path, hidden, batch, chunk = sys.argv[1], *map(int, sys.argv[2:])
torch.set_num_threads(1)
torch.set_grad_enabled(False)
torch.manual_seed(0)
spikes = torch.from_numpy(np.load(path))
samples, steps, inputs = spikes.shape
network = DiehlAndCook2015(inputs, n_neurons=hidden, batch_size=batch, dt=1.0)
network.train(True)
done = 0


def simulate():
    """Simulate the next samples."""
    global done
    for _ in range(chunk // batch):
        some = spikes[torch.arange(done, done + batch) % samples].transpose(0, 1).contiguous()
        network.run({"X": some.view(steps, batch, inputs)}, time=steps)
        done += batch


simulate()  # what is allocated once does not count
print(json.dumps({"version": importlib.metadata.version("bindsnet")}), flush=True)
for _ in sys.stdin:
    begin = time.process_time()
    simulate()
    print(json.dumps({"seconds": time.process_time() - begin}), flush=True)
