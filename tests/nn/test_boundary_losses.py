"""The losses that keep the number of boundaries near its target."""

import math

import pytest
import scipy.special
import scipy.stats
import torch

from aleator.nn import binomial_boundary_loss, hinge_boundary_loss


def rows_with(counts, length):
    return (torch.arange(length) < torch.tensor(counts).unsqueeze(1)).double()


@pytest.mark.parametrize("rate", [0.08, 0.2, 0.7])
def test_binomial_loss_is_the_binomial_log_probability_per_position(rate):
    counts = list(range(41))
    loss = binomial_boundary_loss(rows_with(counts, 40), rate)
    expected = -torch.from_numpy(scipy.stats.binom.logpmf(counts, 40, rate)) / 40
    torch.testing.assert_close(loss, expected, atol=1e-12, rtol=1e-12)
    assert abs(int(loss.argmin()) - rate * 40) <= 1


def test_gradient_of_every_boundary_is_the_digamma_formula():
    boundaries = rows_with([0, 3, 8, 39, 40], 40).requires_grad_()
    binomial_boundary_loss(boundaries, 0.2).sum().backward()
    for row, k in enumerate([0, 3, 8, 39, 40]):
        psi = scipy.special.digamma([k + 1, 40 - k + 1])
        expected = (psi[0] - psi[1] - math.log(0.2 / 0.8)) / 40
        torch.testing.assert_close(boundaries.grad[row], torch.full((40,), expected, dtype=torch.float64))


def test_relaxed_counts_are_accepted():
    assert binomial_boundary_loss(torch.full((1, 10), 0.25), 0.2).isfinite().all()


def test_a_rate_for_each_row_is_the_rate_of_each_row():
    boundaries = rows_with([2, 5], 20)
    together = binomial_boundary_loss(boundaries, torch.tensor([0.1, 0.3], dtype=torch.float64))
    torch.testing.assert_close(together[0], binomial_boundary_loss(boundaries[:1], 0.1)[0])
    torch.testing.assert_close(together[1], binomial_boundary_loss(boundaries[1:], 0.3)[0])


@pytest.mark.parametrize("loss", [binomial_boundary_loss, hinge_boundary_loss])
def test_padding_changes_nothing(loss):
    boundaries = rows_with([2, 5], 20)
    padded = torch.cat([boundaries, torch.ones(2, 7, dtype=torch.float64)], dim=1).requires_grad_()
    mask = torch.arange(27).expand(2, 27) < 20
    torch.testing.assert_close(loss(padded, 0.2, mask=mask), loss(boundaries, 0.2))
    loss(padded, 0.2, mask=mask).sum().backward()
    assert not padded.grad[:, 20:].any()


def test_a_row_of_padding_alone_costs_nothing():
    mask = torch.zeros(1, 5, dtype=torch.bool)
    assert float(binomial_boundary_loss(torch.zeros(1, 5), 0.2, mask)) == 0
    assert float(hinge_boundary_loss(torch.zeros(1, 5), 0.2, mask=mask)) == 0


def test_hinge_is_free_between_its_ends_and_grows_outside():
    loss = hinge_boundary_loss(rows_with([0, 1, 2, 4, 10], 20), 0.2, 0.05)
    torch.testing.assert_close(loss, torch.tensor([0.05, 0.0, 0.0, 0.0, 0.3], dtype=torch.float64))


@pytest.mark.plain
@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1, math.nan])
@pytest.mark.parametrize("loss", [binomial_boundary_loss, hinge_boundary_loss])
def test_a_rate_outside_the_open_unit_interval_is_refused(loss, rate):
    with pytest.raises(ValueError, match=r"rate must be in \(0, 1\), got"):
        loss(torch.zeros(1, 4), rate)


@pytest.mark.plain
def test_a_mask_of_another_shape_and_a_lower_end_above_the_upper_are_refused():
    with pytest.raises(ValueError, match=r"mask must have shape \(1, 4\), got \(1, 3\)"):
        binomial_boundary_loss(torch.zeros(1, 4), 0.2, torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"lower must be at most rate=0\.2, got 0\.3"):
        hinge_boundary_loss(torch.zeros(1, 4), 0.2, 0.3)
