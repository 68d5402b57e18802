"""A private copy is the online rule, and a batch of them the sum of their changes."""

import dataclasses

import numpy as np
import pytest
import torch

from aleator.spiking import EventEngine, PrivateEngine, SpikingState, SynapticScaling, preset, sample_keys

# Traces of 0 at the beginning, as every presentation of a batch has them. theta does not decay: the batch engines apply
# the decay at the end of a presentation, the online rule in every step.
BASE = preset("hao2019-mnist-400").replace(stimulus=150.0, rest=50.0, trace_init=0.0, tau_theta=1e300)
PARAMETERS = BASE.replace(input_rule=dataclasses.replace(BASE.input_rule, target=0.4))
N_IN, N_HIDDEN, N_CLASSES = 150, 10, 3


def network():
    state = SpikingState.initial(N_IN, N_HIDDEN, N_CLASSES, PARAMETERS, torch.Generator().manual_seed(0))
    return state.rested(PARAMETERS)


def images(samples, seed=0):
    random = np.random.default_rng(seed)
    greys = random.integers(0, 256, (samples, N_IN)).astype(float)
    return greys, random.integers(0, N_CLASSES, samples), sample_keys(0, "train", 0, samples)


def private(batch_size, parameters=PARAMETERS):
    return PrivateEngine(parameters, batch_size, dtype=torch.float64)


@pytest.mark.parametrize("phase", ["both", "hidden", "classes"])
@pytest.mark.parametrize("symmetric", [True, False])
def test_a_batch_of_one_is_the_online_rule(phase, symmetric):
    p = PARAMETERS.replace(symmetric=symmetric)
    greys, labels, keys = images(3)
    for sample in range(3):
        part = slice(sample, sample + 1)
        one, other = network(), network()
        expected = EventEngine(p).train(one, greys[part], labels[part], keys[part], phase)
        found = private(1, p).train(other, greys[part], labels[part], keys[part], phase)
        assert np.array_equal(found.hidden, expected.hidden)
        assert expected.hidden.sum() > 10
        for name in ("weights_in", "weights_out", "theta"):
            torch.testing.assert_close(getattr(other, name), getattr(one, name), rtol=0, atol=1e-12)


def test_changes_of_a_batch_are_summed():
    greys, labels, keys = images(4)
    state = network()
    private(4).train(state, greys, labels, keys, "both")
    start = network()
    start.weights_in = SynapticScaling(PARAMETERS.input_rule.target * N_IN)(start.weights_in)
    start.weights_out = SynapticScaling(PARAMETERS.class_rule.target * N_HIDDEN)(start.weights_out)
    changes = dict.fromkeys(("weights_in", "weights_out", "theta"), torch.zeros(()))
    for sample in range(4):
        part, alone = slice(sample, sample + 1), start.clone()
        EventEngine(PARAMETERS.without("input_scaling", "class_scaling")).train(
            alone, greys[part], labels[part], keys[part], "both"
        )
        changes = {name: each + getattr(alone, name) - getattr(start, name) for name, each in changes.items()}
    expected = {name: getattr(start, name) + change for name, change in changes.items()}
    expected["weights_in"].clamp_(max=PARAMETERS.input_rule.w_max)
    expected["weights_out"].clamp_(max=PARAMETERS.class_rule.w_max)
    for name, value in expected.items():
        torch.testing.assert_close(getattr(state, name), value, rtol=0, atol=1e-12)


def test_a_copy_that_is_too_small_is_made_larger_and_the_numbers_do_not_change(monkeypatch):
    greys, labels, keys = images(4)
    roomy, narrow = network(), network()
    private(4).train(roomy, greys, labels, keys, "both")
    engine = private(4)
    monkeypatch.setattr(engine, "_slots", 1)
    monkeypatch.setattr(engine, "_together", 1)
    engine.train(narrow, greys, labels, keys, "both")
    assert engine._slots > 1
    for name, value in roomy.state_dict().items():
        torch.testing.assert_close(narrow.state_dict()[name], value, rtol=0, atol=1e-12)


def test_a_sample_without_spikes_changes_nothing_but_the_scale():
    p = PARAMETERS.replace(intensity_max=2)
    state = network()
    start = state.clone()
    responses = private(2, p).train(state, np.zeros((2, N_IN)), np.zeros(2, np.int64), images(2)[2], "both")
    assert responses.silent.all()
    scaled = SynapticScaling(PARAMETERS.input_rule.target * N_IN)(start.weights_in)
    torch.testing.assert_close(state.weights_in, scaled)
    torch.testing.assert_close(state.theta, start.theta)
