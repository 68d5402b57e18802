"""Small random graphs, and networks whose weights come from a stream."""

import torch

from aleator.graphs import GDSS, DenseBatch, ScoreNetworkA, ScoreNetworkX
from aleator.random import Streams
from aleator.sde import VPSDE


def graphs(batch=3, nodes=7, features=5, seed=0):
    """Noisy graphs as they are halfway through diffusion: real and symmetric, with two to all nodes."""
    generator = torch.Generator().manual_seed(seed)
    mask = torch.arange(nodes) < torch.randint(2, nodes + 1, (batch, 1), generator=generator)
    x = torch.randn(batch, nodes, features, generator=generator) * mask.unsqueeze(-1)
    adj = torch.randn(batch, nodes, nodes, generator=generator).triu(1)
    adj = (adj + adj.mT) * (mask.unsqueeze(-1) & mask.unsqueeze(-2))
    return DenseBatch(x, adj, mask)


def model(features=5, sde_x=None, sde_a=None, **options):
    with Streams(0).scope("init"):
        net_x = ScoreNetworkX(features, depth=2, hidden=8)
        net_a = ScoreNetworkA(features, hidden=8, layers=2, c_hidden=4)
    return GDSS(net_x, net_a, sde_x or VPSDE(0.1, 1.0), sde_a or VPSDE(0.1, 1.0), **options)


def permuted(batch: DenseBatch, order):
    return DenseBatch(batch.x[:, order], batch.adj[:, order][:, :, order], batch.mask[:, order])
