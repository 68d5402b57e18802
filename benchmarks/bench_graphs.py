"""A training step of GDSS: our networks against per-channel loops, as published code has them, with the same weights.

A step is the losses of both networks on noisy random graphs of the data's size, the backward pass, clipping and two
Adams, as in `aleator.graphs.GDSS.fit`. The sizes are the published configurations. On a CPU it is one thread, and
ZINC250k's batch of 1 024 is cut to 64; on a GPU, where there is one, the batches are the published ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_

from aleator.graphs import GDSS, DenseBatch, ScoreNetworkA, ScoreNetworkX, symmetric_noise
from aleator.random import Streams
from aleator.sde import VESDE, VPSDE
from benchmarks.looped_score_networks import LoopedA, LoopedX
from benchmarks.pairs import interleave

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"

# name: nodes, features, batch on a CPU and as published, depth, hidden, layers, linears, channels between layers
SIZES = {
    "community-small, reduced networks": (20, 10, 80, 80, 2, 16, 3, 2, 4),
    "community-small": (20, 10, 128, 128, 3, 32, 5, 2, 8),
    "qm9": (9, 4, 1024, 1024, 2, 16, 3, 3, 8),
    "zinc250k": (38, 9, 64, 1024, 2, 16, 6, 3, 8),
}


def benchmark() -> list[dict[str, Any]]:
    """Return looped / ours for whole training steps, and for the network of the adjacency alone."""
    target = "≥ 4" if DEVICE == "cuda" else "≥ 2"
    rows = []
    for name, (nodes, features, here, published, depth, hidden, layers, linears, c_hidden) in SIZES.items():
        batch = published if DEVICE == "cuda" else here
        with Streams(0).scope("init"):
            net_x = ScoreNetworkX(features, depth, hidden)
            net_a = ScoreNetworkA(features, hidden, layers, linears, c_hidden=c_hidden)
            looped_x, looped_a = LoopedX(net_x), LoopedA(net_a)
        graphs = _graphs(batch, nodes, features)
        what = f"N = {nodes}, batch {batch}, {DEVICE}"
        steps = interleave(_step(net_x, net_a, graphs), _step(looped_x, looped_a, graphs), pairs=11, number=2)
        rows.append(steps.row(f"training step of {name}, {what}", "loops", target))
        passes = interleave(_pass(net_a, graphs), _pass(looped_a, graphs), pairs=11, number=2)
        rows.append(passes.row(f"network of A alone, {name}, {what}", "loops", "–"))
    return rows


def _graphs(batch: int, nodes: int, features: int) -> DenseBatch:
    generator = torch.Generator().manual_seed(nodes)
    mask = torch.arange(nodes) < torch.randint(nodes // 2, nodes + 1, (batch, 1), generator=generator)
    adj = (symmetric_noise(torch.empty(batch, nodes, nodes), generator) > 0.8).float()
    adj = adj * (mask.unsqueeze(-1) & mask.unsqueeze(-2))
    x = torch.randn(batch, nodes, features, generator=generator) * mask.unsqueeze(-1)
    return DenseBatch(x.to(DEVICE), adj.to(DEVICE), mask.to(DEVICE))


def _step(net_x: nn.Module, net_a: nn.Module, graphs: DenseBatch) -> Callable[[], None]:
    model = GDSS(net_x, net_a, VPSDE(0.1, 1.0), VESDE(0.2, 1.0)).to(DEVICE)
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-4, weight_decay=1e-4) for net in (net_x, net_a)]
    generator = torch.Generator(DEVICE).manual_seed(0)

    def step() -> None:
        model.zero_grad()
        model.loss(*graphs, generator=generator).total.backward()  # type: ignore[no-untyped-call]
        for net, optimizer in zip((net_x, net_a), optimizers, strict=True):
            clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()

    return step


def _pass(net: nn.Module, graphs: DenseBatch) -> Callable[[], None]:
    target: Tensor = symmetric_noise(graphs.adj, torch.Generator(DEVICE).manual_seed(1))

    def both() -> None:
        net.zero_grad()
        (net(*graphs) - target).square().sum().backward()

    return both
