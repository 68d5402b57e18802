"""A frozen batch is the sum of what its samples would change, each alone."""

import dataclasses

import numpy as np
import pytest
import torch

from aleator.spiking import (
    EventEngine,
    FrozenEngine,
    PoissonEncoder,
    SpikingState,
    SynapticScaling,
    preset,
    sample_keys,
)

# Traces of 0 at the beginning, as every presentation of a batch has them. theta does not decay, but where that is
# tested: a batch applies the decay at its end, the online rule in every step.
BASE = preset("hao2019-mnist-400").replace(stimulus=150.0, rest=50.0, trace_init=0.0, tau_theta=1e300)
N_IN, N_HIDDEN, N_CLASSES = 150, 10, 3


def parameters(slower=1.0, **changes):
    """The paper's rule with its learning rates divided; more drive per synapse, as there are few."""
    rules = {
        "input_rule": dataclasses.replace(BASE.input_rule, lr=BASE.input_rule.lr / slower, target=0.4),
        "class_rule": dataclasses.replace(BASE.class_rule, lr=BASE.class_rule.lr / slower),
    }
    return BASE.replace(**(rules | changes))


def network(p, seed=0):
    state = SpikingState.initial(N_IN, N_HIDDEN, N_CLASSES, p, torch.Generator().manual_seed(seed))
    return state.rested(p)


def images(samples, seed=0):
    random = np.random.default_rng(seed)
    greys = random.integers(0, 256, (samples, N_IN)).astype(float)
    return greys, random.integers(0, N_CLASSES, samples), sample_keys(0, "train", 0, samples)


def scaled(state, p):
    state.weights_in = SynapticScaling(p.input_rule.target * N_IN)(state.weights_in)
    state.weights_out = SynapticScaling(p.class_rule.target * N_HIDDEN)(state.weights_out)
    return state


def alone(state, p, grey, label, key):
    """Return the state after the online rule saw the stimulus, and one step more in which its last spikes arrive."""
    rates = np.append(grey * p.rate_per_grey * p.intensity, p.teacher_rate)
    spikes = PoissonEncoder(p.dt)(rates, p.stimulus_steps, key)
    teacher = torch.zeros(p.stimulus_steps, N_CLASSES, dtype=torch.bool)
    teacher[:, label] = spikes[:, -1]
    after = state.clone()
    EventEngine(p).simulate(after, spikes[:, :-1].contiguous(), teacher)
    theta = after.theta.clone()
    EventEngine(p).simulate(after, torch.zeros(1, N_IN, dtype=torch.bool))
    return dataclasses.replace(after, theta=theta)


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("symmetric", [True, False])
def test_one_sample_changes_weights_as_the_online_rule_when_learning_is_slow(symmetric):
    p = parameters(slower=100, symmetric=symmetric)
    greys, labels, keys = images(1)
    state = network(p)
    start = scaled(state.clone(), p)
    responses = FrozenEngine(p, 1, dtype=torch.float64).train(state, greys, labels, keys, "both")
    assert responses.hidden.sum() > 10
    online = alone(start, p, greys[0], labels[0], keys[0])
    assert relative(state.weights_in - start.weights_in, online.weights_in - start.weights_in) < 0.02
    assert relative(state.weights_out - start.weights_out, online.weights_out - start.weights_out) < 0.02
    torch.testing.assert_close(state.theta, online.theta, rtol=0, atol=1e-3)


@pytest.mark.parametrize("batch", [2, 7])
def test_changes_of_a_batch_are_sums_and_not_averages(batch):
    p = parameters(slower=100)
    greys, labels, keys = images(batch)
    state = network(p)
    start = scaled(state.clone(), p)
    FrozenEngine(p, batch, dtype=torch.float64).train(state, greys, labels, keys, "both")
    runs = [alone(start, p, *sample) for sample in zip(greys, labels, keys, strict=True)]
    for name in ("weights_in", "weights_out", "theta"):
        summed = sum(getattr(run, name) - getattr(start, name) for run in runs)
        assert relative(getattr(state, name) - getattr(start, name), summed) < 0.02


def test_theta_decays_once_for_the_time_of_all_samples():
    p = parameters(theta_step=0.0, tau_theta=2e4)
    greys, labels, keys = images(6)
    state = network(p)
    FrozenEngine(p, 4).train(state, greys, labels, keys, "hidden")
    steps = 6 * (p.stimulus_steps + p.rest_steps)
    torch.testing.assert_close(state.theta, torch.full_like(state.theta, 20 * (1 - p.dt / 2e4) ** steps))


@pytest.mark.parametrize(("phase", "fixed"), [("hidden", ["weights_out"]), ("classes", ["theta"])])
def test_a_phase_leaves_the_rest_of_the_network_alone(phase, fixed):
    p = parameters()
    greys, labels, keys = images(3)
    state = network(p)
    before = state.clone()
    FrozenEngine(p, 2).train(state, greys, labels, keys, phase)
    for name in fixed:
        assert torch.equal(getattr(state, name), getattr(before, name).float().double())
    learned = "weights_in" if phase == "hidden" else "weights_out"
    assert relative(getattr(state, learned), getattr(scaled(before, p), learned)) > 1e-3


def test_weights_are_cut_where_they_grow():
    p = parameters(slower=0.01)
    greys, labels, keys = images(4)
    state = network(p)
    FrozenEngine(p, 4).train(state, greys, labels, keys, "both")
    assert state.weights_in.max() == p.input_rule.w_max
    assert state.weights_out.max() == p.class_rule.w_max


def test_silent_samples_are_presented_again_before_the_next_batch():
    p = parameters(intensity_max=6)
    greys, labels, keys = images(5)
    greys[1], greys[2] = 0, greys[2] * 0.2
    state = network(p)
    responses = FrozenEngine(p, 3).train(state, greys, labels, keys, "both")
    assert responses.silent.tolist() == [False, True, False, False, False]
    assert responses.re_presentations[1] == 4
    assert 0 < responses.re_presentations[2] <= 4
    assert (responses.hidden.sum(1) >= p.min_spikes).tolist() == (~responses.silent).tolist()


def test_training_that_is_cut_at_a_batch_is_the_same():
    p = parameters()
    greys, labels, keys = images(8)
    whole, parts = network(p), network(p)
    engine = FrozenEngine(p, 4, dtype=torch.float64)
    engine.train(whole, greys, labels, keys, "both")
    for part in (slice(0, 4), slice(4, 8)):
        engine.train(parts, greys[part], labels[part], keys[part], "both")
    for name, value in whole.state_dict().items():
        assert torch.equal(parts.state_dict()[name], value), name
