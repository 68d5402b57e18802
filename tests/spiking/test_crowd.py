"""A large network whose crowd is run apart from its front gives, bit for bit, what it gives as a whole."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from aleator.spiking import EventEngine, SpikingState, SynapticScaling, crowd_kernels, event_engine, preset, sample_keys

# Traces are short, so that the cells of earlier samples are soon in the crowd again.
PARAMETERS = preset("hao2019-mnist-400").replace(
    stimulus=100.0,
    rest=50.0,
    trace_init=0.0,
    tau_trace=4.0,
    tau_theta=1e4,
    input_rule=dataclasses.replace(preset("hao2019-mnist-400").input_rule, target=0.6, w_max=1.5),
)
N_IN, N_HIDDEN, N_CLASSES, SAMPLES = 40, 200, 3, 6


def network(parameters=PARAMETERS):
    generator = torch.Generator().manual_seed(0)
    state = SpikingState.initial(N_IN, N_HIDDEN, N_CLASSES, parameters, generator).rested(parameters)
    state.weights_out.mul_(20)  # class cells answer without scaling, too
    state.theta.add_(2 * torch.rand(N_HIDDEN, generator=generator))
    return state


def samples(count=SAMPLES):
    random = np.random.default_rng(0)
    greys = random.uniform(0, 255, (count, N_IN)) * (random.random((count, N_IN)) < 0.5)
    greys[1] /= 5  # to be presented again
    return greys, random.integers(0, N_CLASSES, count), sample_keys(0, "train", 0, count)


def run(monkeypatch, parameters, crowd, *, phase="both", n_jobs=1, state=None):
    """Train in two calls, with the crowd apart or as a whole. Return the state and the responses."""
    monkeypatch.setattr(event_engine, "CROWD", 1 if crowd else N_HIDDEN + 1)
    state = network(parameters) if state is None else state
    engine, (greys, labels, keys), found = EventEngine(parameters, n_jobs), samples(), []
    for part in (slice(0, 4), slice(4, SAMPLES)):
        found.append(engine.train(state, greys[part], labels[part], keys[part], phase))
    return state, found


def assert_same(one, other):
    for name, value in one[0].state_dict().items():
        assert torch.equal(value, getattr(other[0], name)), name
    for mine, yours in zip(one[1], other[1], strict=True):
        for own in dataclasses.fields(mine):
            np.testing.assert_array_equal(getattr(yours, own.name), getattr(mine, own.name), err_msg=own.name)


@pytest.fixture
def calls(monkeypatch):
    """How often the crowd was run, and put back."""
    counted = {"follow": 0, "settle": 0}

    def counting(name, kernel):
        def call(*arguments):
            counted[name] += 1
            return kernel(*arguments)

        return call

    for name in counted:
        monkeypatch.setattr(crowd_kernels, name, counting(name, getattr(crowd_kernels, name)))
    return counted


CASES = {
    "paper": PARAMETERS,
    "no-decay": PARAMETERS.replace(tau_theta=math.inf),
    "asymmetric": PARAMETERS.without("symmetry"),
    "unscaled": PARAMETERS.without("input_scaling", "class_scaling"),
    "heavy": PARAMETERS.replace(
        input_rule=dataclasses.replace(PARAMETERS.input_rule, w_max=1.3),
        class_rule=dataclasses.replace(PARAMETERS.class_rule, w_max=1.0),
    ),
    "uneven-steps": PARAMETERS.replace(dt=0.3),
    "restless": PARAMETERS.replace(rest=0.0),
    "forgetful": PARAMETERS.replace(stimulus=200.0, tau_trace=2.0),  # traces are gone before the presentation ends
    "traceless": PARAMETERS.replace(stimulus=200.0, tau_trace=0.51),  # and below the smallest number after 60 ms
}


@pytest.mark.parametrize("parameters", CASES.values(), ids=CASES)
def test_front_and_crowd_give_the_bits_of_the_whole(monkeypatch, calls, parameters):
    whole = run(monkeypatch, parameters, crowd=False)
    assert calls["follow"] == 0
    apart = run(monkeypatch, parameters, crowd=True)
    assert whole[1][0].re_presentations[1] > 0
    assert whole[1][0].hidden.sum() >= 20
    assert calls["settle"] > 3
    assert_same(whole, apart)


@pytest.mark.parametrize("parameters", [PARAMETERS, PARAMETERS.without("lateral_inhibition"), CASES["restless"]])
def test_an_evaluation_answers_with_the_bits_of_the_whole(monkeypatch, calls, parameters):
    greys, _, keys = samples()
    whole, apart = [], []
    for found, crowd in ((whole, N_HIDDEN + 1), (apart, 1)):
        monkeypatch.setattr(event_engine, "CROWD", crowd)
        found.append(EventEngine(parameters).evaluate(network(parameters), greys, keys))
    assert calls["settle"] > 3
    assert whole[0].re_presentations[1] > 0
    assert whole[0].classes.sum() > 0
    assert_same((network(), whole), (network(), apart))


@pytest.mark.parametrize("phase", ["hidden", "classes"])
def test_so_they_do_where_one_projection_learns(monkeypatch, calls, phase):
    whole, apart = (run(monkeypatch, PARAMETERS, crowd, phase=phase) for crowd in (False, True))
    assert calls["settle"] > 3
    assert_same(whole, apart)


@pytest.mark.parametrize("phase", ["hidden", "classes"])
def test_traces_of_a_projection_that_does_not_learn_stay_as_they_are(phase):
    state = network()
    trace = state.x_input if phase == "classes" else state.x_hidden_pre
    trace.fill_(1e-30)  # a projection that learns drops what is so small
    greys, labels, keys = (part[:1] for part in samples())
    EventEngine(PARAMETERS.replace(stimulus=200.0)).train(state, greys, labels, keys, phase)
    assert trace.eq(1e-30).all()


def test_weights_below_zero_are_cut_in_all_cells(monkeypatch):
    parameters, found = PARAMETERS.without("input_scaling", "class_scaling"), []
    for crowd in (False, True):
        state = network(parameters)
        state.weights_in[::3, ::5].neg_()
        found.append(run(monkeypatch, parameters, crowd, state=state))
    assert_same(*found)


def test_a_timer_that_is_no_multiple_of_a_step_is_rounded_at_every_step():
    for timer in np.random.default_rng(0).uniform(2, 60, 100):
        wanted = timer
        for _ in range(300):
            wanted += 0.5
        assert crowd_kernels._waited(timer, 0.5, 300) == wanted


def test_two_threads_give_the_bits_of_one(monkeypatch):
    monkeypatch.setattr(crowd_kernels, "TILE", 64)  # of the shares; tiles are compiled in
    one, two = (run(monkeypatch, PARAMETERS, crowd=True, n_jobs=jobs) for jobs in (1, 2))
    assert one[1][0].hidden.sum() >= 20
    assert_same(one, two)


def test_a_bad_guess_costs_time_and_nothing_else(monkeypatch, calls):
    def worst(net, c, over, drives, wanted, front):
        return choose(net, c, over, -drives, wanted, front)

    good = run(monkeypatch, PARAMETERS, crowd=True)
    guessed = calls["follow"]
    choose = crowd_kernels.choose
    monkeypatch.setattr(crowd_kernels, "choose", worst)
    bad = run(monkeypatch, PARAMETERS, crowd=True)
    assert calls["follow"] - guessed > guessed
    assert_same(good, bad)


def test_a_state_in_the_middle_of_things_is_gone_on_with(monkeypatch, calls):
    states = []
    for _ in range(2):
        state = network()
        inputs = torch.rand(60, N_IN, generator=torch.Generator().manual_seed(1)) < 0.1
        EventEngine(PARAMETERS).simulate(state, inputs)
        states.append(state)
    assert states[0].spikes_input.any()
    assert states[0].g_inhibition.any()
    whole = run(monkeypatch, PARAMETERS, crowd=False, state=states[0])
    apart = run(monkeypatch, PARAMETERS, crowd=True, state=states[1])
    assert calls["settle"] > 3
    assert_same(whole, apart)


def test_a_black_image_has_nobody_in_front(monkeypatch, calls):
    found = []
    for crowd in (1, N_HIDDEN + 1):
        monkeypatch.setattr(event_engine, "CROWD", crowd)
        state = network()
        engine, keys = EventEngine(PARAMETERS), sample_keys(0, "train", 0, 1)
        found.append((state, [engine.train(state, np.zeros((1, N_IN)), np.array([0]), keys, "both")]))
    assert found[0][1][0].re_presentations.tolist() == [30]
    assert calls["settle"] == 31
    assert_same(*found)


def test_only_columns_that_are_off_are_scaled_and_each_to_the_target(monkeypatch):
    state = network()
    weights = state.weights_in.numpy()
    rule = SynapticScaling(24.0)
    state.weights_in.copy_(rule(state.weights_in))
    before = state.weights_in.clone()
    state.weights_in[:, 7] *= 1.5
    state.weights_in[:, 9] = 0
    over = np.zeros(N_HIDDEN, np.bool_)
    crowd_kernels.scale_columns(weights, np.arange(N_HIDDEN), 24.0, 1.1, over)
    others = [j for j in range(N_HIDDEN) if j not in (7, 9)]
    assert torch.equal(state.weights_in[:, others], before[:, others])
    torch.testing.assert_close(state.weights_in[:, 7], before[:, 7], rtol=1e-14, atol=0)
    assert not state.weights_in[:, 9].any()
    np.testing.assert_array_equal(over, (weights > 1.1).any(0))
