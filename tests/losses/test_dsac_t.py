"""The critic's loss of DSAC-T: its gradients are those that its paper writes down."""

import pytest
import torch

from aleator.losses import dsac_t_loss


def test_its_gradients_are_the_papers():
    draw = torch.Generator().manual_seed(0)
    mu, sd, y, y_s = (torch.randn(5, generator=draw, dtype=torch.float64) for _ in range(4))
    sd, b = sd.abs() + 0.2, 0.3
    y_s = y_s * 3  # some beyond the clamp
    mean, std = mu.clone().requires_grad_(), sd.clone().requires_grad_()
    by_mean, by_std = torch.autograd.grad(dsac_t_loss(mean, std, y, y_s, b), (mean, std))
    clamped = y_s.clamp(mu - 3 * b, mu + 3 * b)
    assert (clamped != y_s).any()
    factor = (b**2 + 0.1) / 5
    torch.testing.assert_close(by_mean, -factor * (y - mu) / (sd**2 + 0.1), rtol=1e-10, atol=0)
    torch.testing.assert_close(by_std, -factor * ((mu - clamped) ** 2 - sd**2) / (sd**3 + 0.1), rtol=1e-10, atol=1e-15)


@pytest.mark.plain
def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"target must have the shape of mean, \(2,\), got \(3,\)"):
        dsac_t_loss(torch.zeros(2), torch.ones(2), torch.zeros(3), torch.zeros(2), 1.0)
