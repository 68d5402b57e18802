"""The compiled engine against a loop that is written as slowly and plainly as the paper's sections can be read."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from aleator.spiking import (
    DenseEngine,
    EventEngine,
    PoissonEncoder,
    SpikingState,
    SymmetricSTDP,
    SynapticScaling,
    preset,
    sample_keys,
)
from aleator.spiking.state import LEARNED

PARAMETERS = preset("hao2019-mnist-400")
N_IN, N_HIDDEN, N_CLASSES = 30, 6, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(n_in=N_IN, n_hidden=N_HIDDEN, n_classes=N_CLASSES, parameters=PARAMETERS, seed=0):
    """Weights are larger than at the start of training, so that few inputs make cells spike."""
    state = SpikingState.initial(n_in, n_hidden, n_classes, parameters, generator(seed))
    state.weights_in.mul_(3)
    state.weights_out.mul_(25)
    return state


def noise(steps, cells, rate, seed):
    return torch.rand(steps, cells, generator=generator(seed)) < rate


def reference(state, p, inputs, teacher, learn):
    """One cell after the other: sections 2.1 to 2.5 in the order of 2.8. Returns the spikes of E, I and class cells."""
    s = {own.name: getattr(state, own.name).numpy() for own in dataclasses.fields(state)}
    cells, outputs = range(len(s["theta"])), range(len(s["v_class"]))
    rasters = [np.zeros((len(inputs), size), bool) for size in (len(cells), len(cells), len(outputs))]
    sign = 1 if p.symmetric else -1

    def clip(w, w_max):
        return max(min(w, w_max), 0)

    for t in range(len(inputs)):
        # (1) spikes of the last step arrive
        for i in np.flatnonzero(s["spikes_input"]):
            for j in cells:
                s["g_input"][j] += s["weights_in"][i, j]
                if learn:
                    w = s["weights_in"][i, j] + sign * p.input_rule.lr * s["x_hidden_post"][j]
                    s["weights_in"][i, j] = clip(w, p.input_rule.w_max)
            s["x_input"][i] += p.trace_step * learn
        for j in np.flatnonzero(s["spikes_hidden"]):
            s["g_partner"][j] += p.excitation
            for c in outputs:
                s["g_class"][c] += s["weights_out"][j, c]
                if learn:
                    w = s["weights_out"][j, c] + sign * p.class_rule.lr * s["x_class"][c]
                    s["weights_out"][j, c] = clip(w, p.class_rule.w_max)
            s["x_hidden_pre"][j] += p.trace_step * learn
        for k in np.flatnonzero(s["spikes_inhibitory"]):
            for j in cells:
                s["g_inhibition"][j] += p.inhibition * (j != k)
        # (2) postsynaptic plasticity
        if learn:
            for j in np.flatnonzero(s["spikes_hidden"]):
                for i in range(len(s["x_input"])):
                    w = s["weights_in"][i, j] + p.input_rule.lr * s["x_input"][i]
                    s["weights_in"][i, j] = min(w, p.input_rule.w_max)
                s["x_hidden_post"][j] += p.trace_step
            for c in np.flatnonzero(s["spikes_class"]):
                for j in cells:
                    w = s["weights_out"][j, c] + p.class_rule.lr * s["x_hidden_pre"][j]
                    s["weights_out"][j, c] = min(w, p.class_rule.w_max)
                s["x_class"][c] += p.trace_step
        # (3) every cell advances
        for j in cells:
            v, e, i = s["v_hidden"][j], s["g_input"][j], s["g_inhibition"][j]
            if s["timer_hidden"][j] > p.hidden.refractory:
                v += (p.hidden.rest - v + e * (0 - v) + i * (-100 - v)) * (p.dt / p.hidden.tau)
            v = max(v, -100)
            s["timer_hidden"][j] += p.dt
            s["theta"][j] *= 1 - p.dt / p.tau_theta if learn else 1
            threshold = p.hidden.threshold + s["theta"][j] - p.theta_offset
            rasters[0][t, j] = v > threshold and s["timer_hidden"][j] > p.hidden.refractory
            if rasters[0][t, j]:
                v, s["timer_hidden"][j] = p.hidden.reset, 0
                s["theta"][j] += p.theta_step * 10 / abs(s["theta"][j] - 10) if learn else 0
            s["v_hidden"][j] = v
        for j in cells:
            v = s["v_inhibitory"][j]
            if s["timer_inhibitory"][j] > p.inhibitory.refractory:
                v += (p.inhibitory.rest - v + s["g_partner"][j] * (0 - v)) * (p.dt / p.inhibitory.tau)
            s["timer_inhibitory"][j] += p.dt
            resting = s["timer_inhibitory"][j] <= p.inhibitory.refractory
            rasters[1][t, j] = v > p.inhibitory.threshold and not resting
            if rasters[1][t, j]:
                v, s["timer_inhibitory"][j] = p.inhibitory.reset, 0
            s["v_inhibitory"][j] = v
        for c in outputs:
            if learn:
                rasters[2][t, c] = teacher[t, c]
                continue
            v = s["v_class"][c]
            v += (p.classes.rest - v + s["g_class"][c] * (0 - v)) * (p.dt / p.classes.tau)
            rasters[2][t, c] = v > p.classes.threshold
            s["v_class"][c] = p.classes.reset if rasters[2][t, c] else v
        for name, tau in (("g_input", 1), ("g_partner", 1), ("g_class", 1), ("g_inhibition", 2)):
            s[name] *= math.exp(-p.dt / tau)
        if learn:
            for name in ("x_hidden_post", "x_hidden_pre", "x_class"):
                s[name] *= 1 - p.dt / p.tau_trace
            s["x_input"][~s["spikes_input"]] *= 1 - p.dt / p.tau_trace  # an input rests after a spike
        s["spikes_input"][:] = inputs[t]
        for name, raster in zip(("spikes_hidden", "spikes_inhibitory", "spikes_class"), rasters, strict=True):
            s[name][:] = raster[t]
    return rasters


@pytest.mark.parametrize("learn", [True, False], ids=["learning", "inference"])
@pytest.mark.parametrize("ablation", [(), ("symmetry",), ("lateral_inhibition",), ("adaptive_threshold",)], ids=str)
@pytest.mark.parametrize("seed", [0, 1])
def test_the_engine_gives_the_spikes_and_the_state_of_the_plain_loop(seed, ablation, learn):
    parameters = PARAMETERS.without(*ablation)
    fast, plain = network(parameters=parameters, seed=seed), network(parameters=parameters, seed=seed)
    inputs, teacher = noise(500, N_IN, 0.06, seed + 10), noise(500, N_CLASSES, 0.1, seed + 20)
    rasters = EventEngine(parameters).simulate(fast, inputs, teacher, learn)
    hidden, inhibitory, classes = reference(plain, parameters, inputs, teacher, learn)
    assert hidden.sum() >= 15
    assert inhibitory.any()
    assert classes.any()
    np.testing.assert_array_equal(rasters.hidden, hidden)
    np.testing.assert_array_equal(rasters.inhibitory, inhibitory)
    np.testing.assert_array_equal(rasters.classes, classes)
    for name, value in fast.state_dict().items():
        torch.testing.assert_close(value, getattr(plain, name), rtol=1e-12, atol=1e-12, msg=lambda m, n=name: n + m)


def test_simulation_in_two_calls_is_that_in_one():
    inputs, teacher = noise(400, N_IN, 0.06, 1), noise(400, N_CLASSES, 0.1, 2)
    engine, whole, parts = EventEngine(PARAMETERS), network(), network()
    engine.simulate(whole, inputs, teacher)
    for part in (slice(0, 151), slice(151, 400)):
        engine.simulate(parts, inputs[part], teacher[part])
    for name, value in whole.state_dict().items():
        assert torch.equal(value, getattr(parts, name)), name


def test_inference_leaves_all_that_was_learned_bit_identical():
    state = network()
    before = state.state_dict()
    rasters = EventEngine(PARAMETERS).simulate(state, noise(400, N_IN, 0.1, 1), learn=False)
    assert rasters.hidden.any()
    assert all(torch.equal(before[name], getattr(state, name)) for name in LEARNED)


def test_learning_with_steps_of_zero_changes_neither_weights_nor_thresholds():
    still = PARAMETERS.replace(
        input_rule=dataclasses.replace(PARAMETERS.input_rule, lr=0.0),
        class_rule=dataclasses.replace(PARAMETERS.class_rule, lr=0.0),
    ).without("adaptive_threshold")
    state = network(parameters=still)
    before = state.state_dict()
    rasters = EventEngine(still).simulate(state, noise(400, N_IN, 0.1, 1), noise(400, N_CLASSES, 0.1, 2))
    assert rasters.hidden.any()
    assert all(torch.equal(before[name], getattr(state, name)) for name in ("weights_in", "weights_out", "theta"))


def test_a_conductance_falls_exponentially_from_the_weight_of_a_single_spike():
    inputs = torch.zeros(12, N_IN, dtype=torch.bool)
    inputs[0, 4] = True
    state = network()
    EventEngine(PARAMETERS).simulate(state, inputs, learn=False)
    # It arrives in the second step, and has decayed eleven times at the end of the twelfth.
    torch.testing.assert_close(state.g_input, state.weights_in[4] * math.exp(-11 * 0.5 / 1), rtol=1e-12, atol=0)


def test_the_weight_change_is_that_of_the_rule_on_the_rasters():
    # Of the class weights: traces of inputs, which rest after a spike, differ from the rule by the decay of that step.
    quiet = PARAMETERS.replace(trace_init=0.0)
    state, teacher = network(parameters=quiet), noise(500, N_CLASSES, 0.1, 2)
    teacher[-1] = False  # it would not arrive
    before = state.weights_out.clone()
    rasters = EventEngine(quiet).simulate(state, noise(500, N_IN, 0.06, 1), teacher)
    assert rasters.hidden.sum() > 15
    assert not rasters.hidden[-1].any()
    rule = SymmetricSTDP(lr=quiet.class_rule.lr, w_max=quiet.class_rule.w_max)
    change = rule(rasters.hidden[:, None], teacher[:, None], before)
    torch.testing.assert_close(state.weights_out - before, change, rtol=0, atol=1e-12)


@pytest.mark.parametrize("engine", [EventEngine, DenseEngine])
def test_the_trace_of_an_input_decays_in_every_step_but_the_one_after_a_spike(engine):
    # In the authors' program the cell rests in that step, and the line with the decay is not reached.
    inputs, f = torch.zeros(4, N_IN, dtype=torch.bool), 1 - 0.5 / 20
    inputs[1, 4] = True
    traces, state = [], network()
    for spikes in inputs:
        engine(PARAMETERS).simulate(state, spikes[None])
        traces.append(state.x_input[[4, 5]].tolist())
    expected = [[f, f], [f**2, f**2], [f**2 + 0.1, f**3], [(f**2 + 0.1) * f, f**4]]
    np.testing.assert_allclose(traces, expected, rtol=1e-12)


def test_a_long_silence_leaves_no_denormal_numbers_behind():
    state = network()
    EventEngine(PARAMETERS).simulate(state, torch.zeros(40_000, N_IN, dtype=torch.bool))
    for name in ("g_input", "g_inhibition", "g_partner", "g_class", *LEARNED[3:]):
        assert not getattr(state, name).any(), name


def images(count, seed=0):
    greys = np.random.default_rng(seed).uniform(0, 255, (count, 100))
    return greys * (np.random.default_rng(seed + 1).random((count, 100)) < 0.4)


def test_evaluation_does_not_depend_on_threads_on_the_order_of_samples_nor_on_the_voltages():
    state, greys, keys = network(n_in=100, n_hidden=20), images(12), sample_keys(0, "evaluate", 0, 12)
    one = EventEngine(PARAMETERS).evaluate(state, greys, keys)
    two = EventEngine(PARAMETERS, n_jobs=2).evaluate(state, greys, keys)
    state.v_hidden.fill_(-53.0)
    order = np.random.default_rng(3).permutation(12)
    shuffled = EventEngine(PARAMETERS).evaluate(state, greys[order], keys[order])
    assert one.hidden.sum() > 0
    np.testing.assert_array_equal(two.hidden, one.hidden)
    np.testing.assert_array_equal(two.classes, one.classes)
    np.testing.assert_array_equal(shuffled.hidden, one.hidden[order])


def test_evaluation_changes_nothing_in_the_state():
    state = network(n_in=100, n_hidden=20)
    before = state.state_dict()
    EventEngine(PARAMETERS).evaluate(state, images(3), sample_keys(0, "evaluate", 0, 3))
    assert all(torch.equal(value, getattr(state, name)) for name, value in before.items())


def test_a_presentation_is_encoder_scaling_and_simulation_put_together():
    greys, keys = images(1), sample_keys(0, "train", 0, 1)
    trained, replayed = network(n_in=100, n_hidden=20), network(n_in=100, n_hidden=20)
    driven = PARAMETERS.replace(input_rule=dataclasses.replace(PARAMETERS.input_rule, target=0.3))
    engine = EventEngine(driven)
    responses = engine.train(trained, greys, np.array([2]), keys, "both")
    assert responses.re_presentations.tolist() == [0]

    rates = np.append(greys[0] * (2 / 8), 200.0)  # the teacher is the channel after the inputs
    spikes = PoissonEncoder()(rates, 700, keys[0])
    inputs, teacher = torch.zeros(1000, 100, dtype=torch.bool), torch.zeros(1000, 3, dtype=torch.bool)
    inputs[:700], teacher[:700, 2] = spikes[:, :100], spikes[:, 100]
    replayed.weights_in.copy_(SynapticScaling(30.0)(replayed.weights_in))
    replayed.weights_out.copy_(SynapticScaling(16.0)(replayed.weights_out))
    rasters = engine.simulate(replayed, inputs, teacher)
    np.testing.assert_array_equal(responses.hidden[0], rasters.hidden[:700].sum(0))
    np.testing.assert_array_equal(responses.classes[0], [0, 0, teacher.sum()])
    for name, value in trained.state_dict().items():
        torch.testing.assert_close(value, getattr(replayed, name), rtol=1e-10, atol=1e-10, msg=lambda m, n=name: n + m)


def test_a_black_image_is_presented_thirty_times_more_and_stays_silent():
    for learn in (True, False):
        state, keys = network(n_in=100, n_hidden=20), sample_keys(0, "train", 0, 1)
        engine, black = EventEngine(PARAMETERS), np.zeros((1, 100))
        if learn:
            responses = engine.train(state, black, np.array([0]), keys, "both")
        else:
            responses = engine.evaluate(state, black, keys)
        assert (responses.re_presentations.tolist(), responses.silent.tolist()) == ([30], [True])


def test_a_faint_image_is_presented_again_until_it_is_bright_enough():
    responses = EventEngine(PARAMETERS).evaluate(
        network(n_in=100, n_hidden=20), images(1) / 4, sample_keys(0, "evaluate", 0, 1)
    )
    assert 0 < responses.re_presentations[0] < 30
    assert not responses.silent[0]
    assert responses.hidden.sum() >= 5


def test_a_phase_learns_its_own_part_only():
    greys, keys, labels = images(2), sample_keys(0, "train", 0, 2), np.array([0, 1])
    own = {"hidden": {"weights_in", "theta", "x_input", "x_hidden_post"}}
    own["classes"] = set(LEARNED) - own["hidden"]
    for phase, parts in own.items():
        unscaled = PARAMETERS.without("input_scaling", "class_scaling")
        state = network(n_in=100, n_hidden=20, parameters=unscaled)
        before = state.state_dict()
        EventEngine(unscaled).train(state, greys, labels, keys, phase)
        changed = {name for name in LEARNED if not torch.equal(before[name], getattr(state, name))}
        assert changed == parts


@pytest.mark.parametrize(("inputs", "teacher"), [((5, N_IN + 1), None), ((5, N_IN), (4, N_CLASSES))])
@pytest.mark.plain
def test_rasters_that_do_not_fit_are_refused(inputs, teacher):
    rasters = [None if shape is None else torch.zeros(shape, dtype=torch.bool) for shape in (inputs, teacher)]
    with pytest.raises(ValueError, match=r"must have the shape \(5, \d+\), got"):
        EventEngine(PARAMETERS).simulate(network(), *rasters)


@pytest.mark.plain
def test_the_engine_wants_double_precision_and_at_least_one_thread():
    with pytest.raises(
        ValueError, match=r"weights_in must be float64 on the CPU for the event engine, got torch.float32"
    ):
        EventEngine(PARAMETERS).simulate(network().to("cpu", torch.float32), torch.zeros(1, N_IN, dtype=torch.bool))
    with pytest.raises(ValueError, match="n_jobs must be at least 1, got 0"):
        EventEngine(PARAMETERS, n_jobs=0)


def test_without_numba_one_line_names_the_extra():
    program = """
import sys
sys.modules["numba"] = None
from aleator.spiking import EventEngine, preset
try:
    EventEngine(preset("hao2019-mnist-400"))
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "engine event needs the extra 'spiking': pip install 'aleator[spiking]'\n"


def test_the_room_is_entered_without_torch_and_numba():
    program = "import sys, aleator.spiking; print({'torch', 'numba'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
