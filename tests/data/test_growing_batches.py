"""Batches that grow on a problem whose rate is known: noise then falls as the gradient does."""

import math

import torch

from aleator.data import BatchSizeController, split_batch
from aleator.gradients import GradStats, TraceStats
from aleator.optim import AdaGradNorm

D = 20
CURVATURE = torch.logspace(0, math.log10(0.05), D, dtype=torch.float64)


def smallest_gradients(batch, eta, seed, updates=1500):
    """AdaGrad-Norm on ½xᵀHx with gradient noise of variance 1 in each of 20 coordinates; the smallest ‖∇F‖² so far.

    Of a batch of b Gaussian examples, mean and variance are independent: the mean has a variance of 1/b, and
    (b − 1)·tr V is a chi-squared of 20(b − 1) degrees, so that large batches need not be drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.nn.Parameter(torch.ones(D, dtype=torch.float64))
    optimizer = AdaGradNorm([x], lr=1.0)
    controller = None
    if eta is not None:
        controller = BatchSizeController(batch, 10**7, eta=eta, estimator="micro_batch", growth_cap=math.inf)
    best, found, tests = math.inf, [], []
    for step in range(updates):
        b = batch if controller is None else controller.propose().global_size
        true = CURVATURE * x.detach()
        best = min(best, float(true.square().sum()))
        found.append(best)
        x.grad = true + torch.randn(D, generator=generator, dtype=torch.float64) / math.sqrt(b)
        if controller is not None and controller.due(step):
            degrees = D * (b - 1)
            deviation = math.sqrt(2 * degrees) * float(torch.randn((), generator=generator, dtype=torch.float64))
            if degrees < 1000:
                deviation = (
                    float(torch.randn(degrees, generator=generator, dtype=torch.float64).square().sum()) - degrees
                )
            stats = TraceStats((degrees + deviation) / (b - 1), float(x.grad.square().sum()), b)
            controller.observe(stats)
            tests.append((b, stats.trace / (eta**2 * stats.mean_sq_norm), controller.propose().global_size))
        optimizer.step()
    return found, tests


def slope(found):
    """Slope of log ‖∇F‖² against log k, from the 100th update on."""
    k = torch.arange(100, len(found) + 1, dtype=torch.float64).log()
    y = torch.tensor(found[99:], dtype=torch.float64).log()
    return float(((k - k.mean()) * (y - y.mean())).sum() / (k - k.mean()).square().sum())


def test_growing_batches_have_a_faster_rate_and_every_violated_test_its_increase():
    constant = [slope(smallest_gradients(2, None, seed)[0]) for seed in range(2)]
    growing = []
    for seed in range(2):
        found, tests = smallest_gradients(2, 0.5, seed)
        growing.append(slope(found))
        for b, needed, following in tests:
            wanted = min(max(b, math.ceil(needed)), 10**7)
            assert following == split_batch(wanted, 10**7).global_size
        assert tests[-1][2] > 1000
    assert max(growing) <= min(constant) - 1


def test_examples_and_means_of_micro_batches_ask_for_about_the_same():
    generator = torch.Generator().manual_seed(0)
    by_examples, by_means = [], []
    for _ in range(200):
        g = torch.randn(16, 4, 50, generator=generator, dtype=torch.float64) + 0.5
        mean = g.mean((0, 1))
        whole = GradStats(g.square().sum(2).flatten(), None, float(mean @ mean), 64)
        by_examples.append(whole.trace)
        norms = (4 * g.mean(1).square().sum(1)).sum() - 64 * mean @ mean
        by_means.append(float(norms) / 15)
    # 50 · 15 degrees of freedom each: the mean of 200 has a standard error of 0.4 %.
    assert abs(sum(by_means) / sum(by_examples) - 1) < 0.02
