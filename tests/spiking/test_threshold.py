import pytest
import torch

from aleator.spiking import AdaptiveThreshold


def test_the_recursion_of_the_paper():
    adaptive = AdaptiveThreshold(step=0.07, tau=6e6)
    theta, expected = torch.tensor([20.0], dtype=torch.float64), 20.0
    for step in range(500):
        spike = step % 3 == 0
        theta = adaptive.gained(adaptive.decayed(theta, 1), torch.tensor([float(spike)]).double())
        expected -= expected * 0.5 / 6e6
        expected += 0.07 * (20 - 10) / abs(expected - 10) if spike else 0
    assert theta.item() == pytest.approx(expected, abs=1e-11)


def test_spikes_raise_it_monotonically_and_each_by_less():
    adaptive, spike = AdaptiveThreshold(step=0.07), torch.ones(1, dtype=torch.float64)
    theta = [torch.tensor([20.0], dtype=torch.float64)]
    for _ in range(200):
        theta.append(adaptive.gained(theta[-1], spike))
    gains = torch.cat(theta).diff()
    assert gains[0].item() == pytest.approx(0.07)
    assert (gains > 0).all()
    assert (gains.diff() < 0).all()


def test_the_decay_of_a_sample_does_not_vanish_in_single_precision():
    adaptive = AdaptiveThreshold(tau=2e7)
    theta = torch.tensor([20.0])
    stepped = theta
    for _ in range(1000):
        stepped = stepped - stepped * (0.5 / 2e7)
    assert stepped.item() == 20.0  # what happens to the authors' program
    lost = 20.0 - adaptive.decayed(theta, 1000).item()
    assert lost == pytest.approx(20 * 500 / 2e7, rel=0.01)


def test_at_the_pole_the_gain_is_bounded():
    gained = AdaptiveThreshold(step=0.07).gained(torch.tensor([10.0]), torch.ones(1))
    assert gained.item() == pytest.approx(10 + 0.07 * 10 / 1e-3)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"step": -1.0}, "step must not be negative, got -1.0"), ({"tau": 0.1}, r"dt must be in \(0, 0.1\]")],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        AdaptiveThreshold(**options)


def test_below_the_pole_a_gain_is_positive_too():
    theta = AdaptiveThreshold().gained(torch.tensor([5.0]), torch.ones(1))
    torch.testing.assert_close(theta, torch.tensor([5 + 0.07 * 10 / 5]))
