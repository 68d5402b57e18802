"""Our step and the naive one, as programs like those of peers: ``python -m benchmarks.pde_steps KIND FILE MIB``.

sdgd     10 sampled dimensions            exact    all, in collapsed Taylor mode
naive    the trace of the full Hessian, from ``torch.func.hessian``
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.func import hessian, vmap

from aleator import __version__
from aleator.gradients import SDGD, laplacian

sys.path.append(str(Path(__file__).parent / "peers"))


def main(kind: str, path: str, megabytes: int) -> None:
    """Answer as a peer does."""
    protocol = importlib.import_module("pde_protocol")  # in the peers' environments it stands alone
    torch.set_num_threads(1)
    points, layers = protocol.read(path)
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(weight.shape[1], weight.shape[0])
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weight))
            linear.bias.copy_(torch.from_numpy(bias))
        modules += [linear, nn.Tanh()]
    net = nn.Sequential(*modules[:-1])
    x = torch.from_numpy(points)
    generator = torch.Generator().manual_seed(0)

    def operator() -> Tensor:
        if kind == "sdgd":
            return laplacian(net, x, SDGD(10, unbiased=False), generator=generator).value
        if kind == "exact":
            return laplacian(net, x).value
        whole: Tensor = vmap(hessian(lambda y: net(y)[0]))(x)
        return whole.diagonal(dim1=1, dim2=2).sum(1)

    def step() -> float:
        net.zero_grad()
        found = operator()
        found.square().mean().backward()  # type: ignore[no-untyped-call]
        return found.detach().mean().item()

    protocol.limit(megabytes)
    protocol.answer(__version__, step, kind != "sdgd")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
