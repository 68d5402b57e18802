"""Noise of adjacency matrices: symmetric, hollow, of unit variance."""

import math

import torch

from aleator.graphs import graph_noise, symmetric_noise
from aleator.random import ItemGenerator


def test_noise_is_symmetric_hollow_and_of_unit_variance():
    noise = symmetric_noise(torch.empty(4000, 5, 5), torch.Generator().manual_seed(0))
    assert torch.equal(noise, noise.mT)
    assert noise.diagonal(dim1=1, dim2=2).eq(0).all()
    upper = noise[:, *torch.triu_indices(5, 5, 1)]
    n = upper.numel()
    # False alarms: 0.3 % each; the seed is fixed.
    assert abs(upper.mean()) < 3 / math.sqrt(n)
    assert abs(upper.square().mean() - 1) < 3 * math.sqrt(2 / n)
    # Ten independent pairs: no covariance off the diagonal, up to five of its standard errors.
    assert (upper.T.cov() - torch.eye(10)).abs().max() < 5 * math.sqrt(2 / 4000)


def test_noise_of_a_graph_does_not_depend_on_its_batch():
    def draw(items):
        generator = ItemGenerator(7, items)
        return [graph_noise(torch.empty(len(items), 4, width), state, generator) for state, width in ((0, 3), (1, 4))]

    for whole, part in zip(draw(range(5)), draw([3, 1]), strict=True):
        assert torch.equal(whole[[3, 1]], part)
