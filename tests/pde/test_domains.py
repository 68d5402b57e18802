"""Domains: where points lie, by which law, and points that lie outside."""

import math

import pytest
import torch

from aleator.pde import Ball, Box, Gaussian
from aleator.random import Streams

N = 4000


@pytest.fixture
def generator() -> torch.Generator:
    return Streams(0).generator("points")


def test_the_radius_of_a_ball_is_uniform_in_the_radius_or_in_the_volume(generator):
    # Kolmogorov-Smirnov at a false-alarm rate of 1e-6: sqrt(ln(2/1e-6)/2n).
    bound = math.sqrt(math.log(2e6) / (2 * N))
    for law, power in (("radius", 1), ("volume", 7)):
        radii = torch.linalg.vector_norm(Ball(7, radius=2.0, law=law).sample(N, generator, torch.float64), dim=1) / 2
        place = (radii.sort().values ** power - torch.linspace(0, 1, N, dtype=torch.float64)).abs().max()
        assert place < bound + 1 / N, law


def test_brownian_points_spread_with_the_root_of_time(generator):
    x = Gaussian(50, (0.0, 2.0), law="brownian").sample(N, generator, torch.float64)
    ratio = x[:, :50].square().mean(1) / (2 * x[:, 50])
    # The mean of N·50 squares of normal numbers has the deviation sqrt(2/(50 N)): five of them.
    assert abs(float(ratio.mean()) - 1) < 5 * math.sqrt(2 / (50 * N))


@pytest.mark.parametrize(
    "domain",
    [Ball(3, radius=2.0), Ball(3, (0.0, 1.0)), Box(3, low=-1.0, high=2.0), Box(3, (-1.0, 1.0))],
    ids=str,
)
def test_points_of_the_boundary_lie_on_it_with_outward_unit_normals(domain, generator):
    x, normals = domain.boundary(200, generator, torch.float64)
    domain.check(x)
    torch.testing.assert_close(torch.linalg.vector_norm(normals, dim=1), torch.ones(200, dtype=torch.float64))
    assert bool(domain.contains(x - 1e-3 * normals).all())
    assert not bool(domain.contains(x + 1e-3 * normals).any())
    if domain.time is not None:
        assert bool((normals[:, -1] == 0).all())


@pytest.mark.parametrize(
    "domain", [Ball(4), Box(4, (0.0, 2.0)), Gaussian(4, (0.0, 1.0)), Gaussian(4, std=3.0)], ids=str
)
def test_drawn_points_lie_in_the_domain_and_are_those_of_the_seed(domain):
    x = domain.sample(100, Streams(1).generator("x"))
    assert x.shape == (100, domain.coordinates)
    domain.check(x)
    assert torch.equal(x, domain.sample(100, Streams(1).generator("x")))


@pytest.mark.plain
def test_bad_domains_and_points_are_one_line_each():
    refused = {
        lambda: Ball(0): "d must be a positive integer, got 0",
        lambda: Ball(2, radius=-1.0): "radius must be positive and finite, got -1.0",
        lambda: Ball(2, law="ball"): "law must be radius or volume, got 'ball'",
        lambda: Box(2, low=1.0, high=1.0): "high must be finite and above low, 1, got 1",
        lambda: Gaussian(2, law="brownian"): "law brownian needs time, got None",
        lambda: Gaussian(2, (1.0, 0.0)): r"time must be two instants, the first before the last, got \(1.0, 0.0\)",
        lambda: Gaussian(2).boundary(3, torch.Generator()): "Gaussian has no boundary",
        lambda: Ball(2).check(torch.tensor([[0.0, 0.0], [1.0, 0.1]])): (
            "x must lie in the ball of radius 1 in 2 dimensions, got 1 points outside, the first at row 1"
        ),
        lambda: Ball(2).check(torch.tensor([[math.nan, 0.0]])): "got 1 points outside",
        lambda: Box(2, (0.0, 1.0)).check(torch.tensor([[0.5, 0.5, 1.5]])): "at times in",
        lambda: Ball(2).check(torch.zeros(3, 4)): r"x must be floating point of shape \(n, 2\), d = 2, got",
    }
    for call, line in refused.items():
        with pytest.raises(ValueError, match=line):
            call()
