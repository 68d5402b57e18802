"""A step of jet-for-pytorch, collapsed Taylor mode; see `pde_protocol`.

Runs in the peer's environment.
"""

import importlib.metadata
import sys

import torch
from jet import laplacian
from pde_protocol import answer, limit, read

torch.set_num_threads(1)
points, layers = read(sys.argv[1])
modules = []
for weight, bias in layers:
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
    modules += [linear, torch.nn.Tanh()]
net = torch.nn.Sequential(*modules[:-1])
limit(int(sys.argv[2]))
x = torch.from_numpy(points)
of_points = torch.func.vmap(laplacian(net, (torch.zeros(x.shape[1]),)))


def step():
    """Back-propagate the mean squared Laplacian."""
    net.zero_grad()
    found = of_points(x)
    found.square().mean().backward()
    assert all(p.grad is not None for p in list(net.parameters())[:-1])
    return found.detach().mean()


answer(importlib.metadata.version("jet-for-pytorch"), step, True)
