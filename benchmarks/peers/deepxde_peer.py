"""A step of DeepXDE, PyTorch backend, on the sum of its second derivatives; see `pde_protocol`.

Runs in the peer's environment.
"""

import os
import sys

os.environ["DDE_BACKEND"] = "pytorch"

import deepxde
import torch
from pde_protocol import answer, limit, read

torch.set_num_threads(1)
points, layers = read(sys.argv[1])
net = deepxde.nn.FNN([points.shape[1], *(len(bias) for _, bias in layers)], "tanh", "Glorot uniform")
with torch.no_grad():
    for linear, (weight, bias) in zip(net.linears, layers, strict=True):
        linear.weight.copy_(torch.from_numpy(weight))
        linear.bias.copy_(torch.from_numpy(bias))
limit(int(sys.argv[2]))
x = torch.from_numpy(points).requires_grad_()


def step():
    """Back-propagate the mean squared Laplacian."""
    net.zero_grad()
    y = net(x)
    laplacian = sum(deepxde.grad.hessian(y, x, i=i, j=i) for i in range(x.shape[1]))
    laplacian.square().mean().backward()
    deepxde.grad.clear()
    return laplacian.detach().mean()


answer(deepxde.__version__, step, True)
