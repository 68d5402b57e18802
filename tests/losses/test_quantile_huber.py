"""Quantile regression: the formula term by term, and that its minimum are the quantiles."""

import pytest
import torch

from aleator.losses import quantile_huber


def test_it_is_the_mean_of_all_pairs():
    z, targets = torch.tensor([[0.0, 2.0]]).double(), torch.tensor([[0.5, -3.0, 1.0]]).double()
    total = 0.0
    for i, level in enumerate((0.25, 0.75)):
        for target in targets[0].tolist():
            d = target - z[0, i].item()
            total += abs(level - (d < 0)) * (0.5 * d * d if abs(d) <= 1 else abs(d) - 0.5)
    assert quantile_huber(z, targets).item() == pytest.approx(total / 6, rel=1e-12)


def test_far_away_its_gradient_is_zero_at_the_quantiles():
    # Where |d| > 1 the loss is linear, so its minimum is the quantile itself: the slopes are τ above and τ − 1 below.
    targets = torch.arange(0.0, 100.0, 10.0).double().expand(1, -1)
    z = torch.tensor([[25.0, 75.0]], dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(quantile_huber(z, targets), z)
    below = torch.tensor([3.0, 8.0]).double() / 10  # share of targets below each
    torch.testing.assert_close(gradient[0], (below - torch.tensor([0.25, 0.75]).double()) / 2)


@pytest.mark.plain
def test_batches_must_agree():
    with pytest.raises(ValueError, match=r"targets must have the batch of quantiles, \(2,\), got \(3,\)"):
        quantile_huber(torch.zeros(2, 4), torch.zeros(3, 4))
