"""A learning rate that is too small, right, too large; a loss that leaves the numbers."""

import pytest
import torch

from aleator.gradients import check_rates

TARGET = torch.linspace(-1, 1, 20)


def batch(number, sample):
    generator = torch.Generator().manual_seed(1000 * number + sample)
    return TARGET + 0.1 * torch.randn(8, 20, generator=generator)


def loss(theta, data):
    return (theta["w"] - data).square().mean()


HELD = [batch(999, sample) for sample in range(8)]


def test_rates_are_told_apart_and_theta_stays():
    theta = {"w": torch.zeros(20)}
    small, right, large, huge = check_rates(loss, theta, batch, HELD, [1e-9, 0.3, 30.0, 1e20], rounds=30)
    assert small.verdict == "does not move"
    assert (right.verdict, right.rounds) == ("moves", 30)
    assert right.change < -0.1
    assert large.verdict == huge.verdict == "diverges"
    assert huge.rounds < 30
    assert "lr 1e+20 diverges: loss +nan" in str(huge)
    assert torch.equal(theta["w"], torch.zeros(20))


@pytest.mark.plain
@pytest.mark.parametrize(
    ("change", "message"),
    [({"held": HELD[:1]}, "held must have two batches"), ({"rounds": 0}, "rounds and gradients must be at least 1")],
)
def test_what_cannot_be_checked_is_refused(change, message):
    given = {"loss": loss, "theta": {"w": torch.zeros(20)}, "batch": batch, "held": HELD, "lrs": [0.1]} | change
    with pytest.raises(ValueError, match=message):
        check_rates(**given)
