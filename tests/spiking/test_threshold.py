import math

import numpy as np
import pytest
import torch

from aleator.spiking import (
    AdaptiveThreshold,
    DenseEngine,
    EventEngine,
    FrozenEngine,
    PrivateEngine,
    SpikingState,
    preset,
    sample_keys,
)


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


def single_precision(theta, tau):
    """What the authors' line makes of theta in a sample of 1000 steps."""
    stepped = torch.tensor([theta])
    for _ in range(1000):
        stepped = stepped - stepped * 0.5 / tau
    return stepped.item()


@pytest.mark.parametrize("tau", [2e7, 5e7])
@pytest.mark.parametrize("theta", [20.0, 59.0])
def test_the_decay_of_a_sample_vanishes_in_the_authors_single_precision_and_not_here(tau, theta):
    assert single_precision(theta, tau) == theta
    lost = theta - AdaptiveThreshold(tau=tau).decayed(torch.tensor([theta]), 1000).item()
    assert lost == pytest.approx(theta * 500 / tau, rel=0.02)


@pytest.mark.parametrize(
    ("tau", "theta", "ratio"), [(6e6, 20.0, 1.14), (6e6, 34.0, 1.35), (8e6, 18.0, 1.70), (8e6, 30.0, 1.02)]
)
def test_with_shorter_time_constants_single_precision_decays_by_whole_units(tau, theta, ratio):
    exact = theta * -math.expm1(-500 / tau)
    assert (theta - single_precision(theta, tau)) / exact == pytest.approx(ratio, abs=0.01)


@pytest.mark.parametrize("engine", [EventEngine, DenseEngine, FrozenEngine, PrivateEngine])
def test_an_infinite_time_constant_is_no_decay(engine):
    parameters = preset("hao2019-mnist-1600").replace(stimulus=50.0, rest=10.0, intensity_max=2)
    black, keys = np.zeros((3, 4)), sample_keys(0, "train", 0, 3)
    found = {}
    for tau in (parameters.tau_theta, math.inf):
        p = parameters.replace(tau_theta=tau)
        state = SpikingState.initial(4, 5, 2, p, torch.Generator().manual_seed(0))
        engine(p).train(state, black, np.zeros(3, np.int64), keys, "both")
        found[tau] = state.theta
    assert (found[math.inf] == 20.0).all()
    torch.testing.assert_close(20.0 - found[8e6], torch.full((5,), 20 * 180 / 8e6).double(), rtol=1e-4, atol=0)


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
