"""Every cell in every step gives what the event-driven engine gives."""

import dataclasses

import numpy as np
import pytest
import torch

from aleator.spiking import DenseEngine, EventEngine, SpikingState, preset, sample_keys
from aleator.spiking.batch_cells import BatchCells

PARAMETERS = preset("hao2019-mnist-400").replace(
    stimulus=60.0, rest=20.0, input_rule=dataclasses.replace(preset("hao2019-mnist-400").input_rule, target=0.8)
)
N_IN, N_HIDDEN, N_CLASSES = 40, 8, 3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(seed=0):
    """Weights are larger than at the start of training, so that few inputs make cells spike."""
    state = SpikingState.initial(N_IN, N_HIDDEN, N_CLASSES, PARAMETERS, generator(seed))
    state.weights_in.mul_(5)
    state.weights_out.mul_(25)
    return state


def noise(*shape, rate=0.1, seed=1):
    return torch.rand(*shape, generator=generator(seed)) < rate


def images(samples, seed=0):
    random = np.random.default_rng(seed)
    greys = random.integers(0, 256, (samples, N_IN)).astype(float)
    return greys, random.integers(0, N_CLASSES, samples), sample_keys(0, "train", 0, samples)


def assert_same(one, other, tolerance=1e-12):
    for name, value in one.state_dict().items():
        torch.testing.assert_close(other.state_dict()[name], value, rtol=tolerance, atol=tolerance, msg=name)


def assert_same_rasters(one, other):
    for name in ("hidden", "inhibitory", "classes"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@pytest.mark.plain  # a loop, whose functions other tests check
@pytest.mark.parametrize("learn", [False, True])
@pytest.mark.parametrize("symmetric", [False, True])
def test_replayed_spikes_and_state_are_those_of_the_event_engine(learn, symmetric):
    parameters = PARAMETERS.replace(symmetric=symmetric)
    one, other = network(), network()
    for part in range(2):  # the state carries over
        inputs, teacher = noise(300, N_IN, seed=part), noise(300, N_CLASSES, rate=0.05, seed=10 + part)
        expected = EventEngine(parameters).simulate(one, inputs, teacher, learn)
        assert expected.hidden.sum() > 10
        assert expected.classes.sum() > 5
        assert_same_rasters(DenseEngine(parameters).simulate(other, inputs, teacher, learn), expected)
        assert_same(one, other)


@pytest.mark.plain  # a loop, whose functions other tests check
def test_a_batch_of_rasters_is_each_of_them_from_the_same_state():
    state = network()
    DenseEngine(PARAMETERS).simulate(state, noise(50, N_IN))  # in the middle of things
    before = state.clone()
    inputs = noise(200, 3, N_IN, seed=2)
    batch = DenseEngine(PARAMETERS).simulate(state, inputs, learn=False)
    assert_same(state, before, 0)
    for b in range(3):
        alone = EventEngine(PARAMETERS).simulate(before.clone(), inputs[:, b].contiguous(), learn=False)
        assert alone.hidden.sum() > 10
        for name in ("hidden", "inhibitory", "classes"):
            assert torch.equal(getattr(batch, name)[:, b], getattr(alone, name))


@pytest.mark.plain  # a loop, whose functions other tests check
@pytest.mark.parametrize("batch_size", [4, 32])
def test_evaluation_is_that_of_the_event_engine_whatever_the_batch(batch_size):
    greys, _, _ = images(9)
    greys[2], greys[5] = 0, greys[5] * 0.1  # one never spikes, one only when presented again
    state = network()
    before = state.clone()
    keys = sample_keys(1, "evaluate", 0, 9)
    expected = EventEngine(PARAMETERS).evaluate(state, greys, keys)
    found = DenseEngine(PARAMETERS, batch_size).evaluate(state, greys, keys)
    assert expected.silent.tolist() == [s == 2 for s in range(9)]
    assert expected.re_presentations[2] == 30
    assert 0 < expected.re_presentations[5] < 30
    assert expected.hidden.sum() > 40
    for own in dataclasses.fields(expected):
        assert np.array_equal(getattr(found, own.name), getattr(expected, own.name)), own.name
    assert_same(state, before, 0)


@pytest.mark.plain  # a loop, whose functions other tests check
@pytest.mark.parametrize(("phase", "samples"), [("both", 5), ("hidden", 2), ("classes", 2)])
def test_training_is_the_online_rule(phase, samples):
    greys, labels, keys = images(samples)
    greys[1] *= 0.03
    one, other = network(), network()
    expected = EventEngine(PARAMETERS).train(one, greys, labels, keys, phase)
    found = DenseEngine(PARAMETERS).train(other, greys, labels, keys, phase)
    assert expected.re_presentations[1] > 0
    assert_same(one, other)
    for own in dataclasses.fields(expected):
        assert np.array_equal(getattr(found, own.name), getattr(expected, own.name)), own.name


@pytest.mark.plain  # a loop, whose functions other tests check
def test_single_precision_trains_too():
    greys, labels, keys = images(2)
    one, other = network(), network()
    DenseEngine(PARAMETERS).train(one, greys, labels, keys, "both")
    DenseEngine(PARAMETERS, dtype=torch.float32).train(other, greys, labels, keys, "both")
    assert other.weights_in.dtype == torch.float64  # the state stays what it is
    torch.testing.assert_close(other.weights_in, one.weights_in, rtol=1e-3, atol=1e-3)


def test_inhibition_of_rank_one_is_that_of_the_matrix_without_its_diagonal():
    cells = BatchCells(network().rested(PARAMETERS), PARAMETERS, (4,))
    cells.spikes_inhibitory = noise(4, N_HIDDEN, rate=0.3)
    cells.arrive(None, None)
    matrix = PARAMETERS.inhibition * (torch.ones(N_HIDDEN, N_HIDDEN) - torch.eye(N_HIDDEN)).double()
    torch.testing.assert_close(cells.g_inhibition, cells.spikes_inhibitory.double() @ matrix)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"dtype": torch.float16}, "dtype must be torch.float32 or torch.float64, got torch.float16"),
    ],
    ids=["batch_size", "dtype"],
)
def test_options_that_are_not_accepted(options, message):
    with pytest.raises(ValueError, match=message):
        DenseEngine(PARAMETERS, **options)


@pytest.mark.plain
@pytest.mark.parametrize(
    ("inputs", "teacher", "message"),
    [
        (noise(5, 2, N_IN), None, r"learn must be False for a batch of rasters, got True and a batch of \(2,\)"),
        (noise(5, 3), None, r"inputs must have the shape \(5, 40\), got \(5, 3\)"),
        (noise(5, N_IN), noise(4, N_CLASSES), r"teacher must have the shape \(5, 3\), got \(4, 3\)"),
    ],
    ids=["batch", "inputs", "teacher"],
)
def test_rasters_that_do_not_fit(inputs, teacher, message):
    with pytest.raises(ValueError, match=message):
        DenseEngine(PARAMETERS).simulate(network(), inputs, teacher)
