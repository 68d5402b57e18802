"""Statistics of per-example gradients, and the noise scale."""

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from aleator.gradients import GradStats, gradient_stats, noise_scale


def losses(outputs, targets):
    return F.cross_entropy(outputs, targets, reduction="none")


@pytest.fixture
def written_out():
    """A model, a batch, and its gradients one by one."""
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)).double()
        x, y = torch.randn(9, 4, dtype=torch.float64), torch.randint(3, (9,))
    rows = []
    for i in range(9):
        gradient = torch.autograd.grad(losses(model(x[i : i + 1]), y[i : i + 1]).sum(), list(model.parameters()))
        rows.append(torch.cat([g.flatten() for g in gradient]))
    return model, (x, y), torch.stack(rows)


@pytest.mark.parametrize("method", ["ghost", "vmap"])
def test_statistics_equal_those_of_gradients_one_by_one(written_out, method):
    model, batch, g = written_out
    stats = gradient_stats(model, losses, batch, method=method)
    mean = g.mean(0)
    assert torch.allclose(stats.sq_norms, g.square().sum(1), atol=1e-12)
    assert torch.allclose(stats.inner, g @ mean, atol=1e-12)
    assert stats.mean_sq_norm == pytest.approx(float(mean @ mean), rel=1e-9)
    assert stats.n == 9
    assert noise_scale(stats) == pytest.approx(float(g.var(0).sum() / (mean @ mean)), rel=1e-9)


def test_second_moments_are_those_of_each_coordinate(written_out):
    model, batch, g = written_out
    stats = gradient_stats(model, losses, batch, need=("second_moment",))
    assert torch.allclose(stats.second_moment, g.square().mean(0), atol=1e-12)
    assert torch.allclose(stats.mean, g.mean(0), atol=1e-12)
    assert all(p.grad is None for p in model.parameters())


def test_no_mean_is_all_noise_and_no_gradient_is_none():
    assert noise_scale(GradStats(torch.ones(4).double(), None, 0.0, 4)) == math.inf
    assert noise_scale(GradStats(torch.zeros(4).double(), None, 0.0, 4)) == 0


def test_equal_gradients_have_no_noise():
    with torch.random.fork_rng([]):
        model = nn.Linear(2, 2)
    batch = (torch.ones(6, 2), torch.zeros(6).long())
    assert noise_scale(gradient_stats(model, losses, batch)) == pytest.approx(0, abs=1e-5)
