import pytest
import torch

from aleator.spiking import SpikingState, preset
from aleator.spiking.state import LEARNED

PARAMETERS = preset("hao2019-mnist-400")


def network(n_in=7, n_hidden=5, n_classes=3, seed=0, parameters=PARAMETERS):
    return SpikingState.initial(n_in, n_hidden, n_classes, parameters, torch.Generator().manual_seed(seed))


def test_the_beginning_is_that_of_the_program():
    state = network(n_in=300, n_hidden=200)
    thousandths = state.weights_in * 1000
    torch.testing.assert_close(thousandths, thousandths.round(), rtol=0, atol=1e-9)
    assert (thousandths.round().min(), thousandths.round().max()) == (0, 299)
    assert state.v_hidden.unique().tolist() == [-105]
    assert state.v_class.unique().tolist() == [-100]
    assert state.theta.unique().tolist() == [20]
    assert {getattr(state, name).unique().item() for name in LEARNED[3:]} == {1.0}


def test_no_field_is_as_large_as_the_square_of_the_hidden_layer():
    state = network(n_in=2, n_hidden=100, n_classes=3)
    assert max(value.numel() for value in state.state_dict().values()) == 300


def test_a_loaded_state_is_the_saved_one_bit_by_bit_and_shares_nothing_with_it():
    saved, loaded = network(seed=0).state_dict(), network(seed=1)
    loaded.load_state_dict(saved)
    assert all(torch.equal(value, getattr(loaded, name)) for name, value in saved.items())
    loaded.weights_in.zero_()
    assert saved["weights_in"].any()


def test_a_rested_state_shares_what_was_learned_and_has_cells_at_rest():
    state = network()
    rested = state.rested(PARAMETERS)
    assert all(getattr(rested, name) is getattr(state, name) for name in LEARNED)
    assert rested.v_hidden.unique().tolist() == [-65]
    assert rested.v_inhibitory.unique().tolist() == [-60]
    assert rested.v_class.unique().tolist() == [-60]
    assert state.v_hidden.unique().tolist() == [-105]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_hidden": 0}, "n_hidden must be at least 1, got 0"),
        ({"n_hidden": 1}, "n_hidden must be at least 2 with lateral inhibition, got 1"),
        ({"n_in": 0}, "n_in must be at least 1, got 0"),
        ({"n_classes": 0}, "n_classes must be at least 1, got 0"),
    ],
    ids=str,
)
def test_impossible_sizes_are_refused(sizes, message):
    with pytest.raises(ValueError, match=message):
        network(**sizes)


def test_a_single_hidden_cell_is_a_network_without_inhibition():
    assert network(n_hidden=1, parameters=PARAMETERS.without("lateral_inhibition")).n_hidden == 1


@pytest.mark.plain
def test_a_state_of_another_size_or_with_nan_is_refused_and_changes_nothing():
    state = network()
    before = state.state_dict()
    with pytest.raises(ValueError, match=r"weights_in must have the shape \(7, 5\), got \(8, 5\)"):
        state.load_state_dict(network(n_in=8).state_dict())
    broken = network(seed=1).state_dict()
    broken["theta"][2] = float("nan")
    with pytest.raises(ValueError, match="theta must be finite, got NaN or infinity"):
        state.load_state_dict(broken)
    del broken["theta"]
    with pytest.raises(ValueError, match=r"theta must have the shape \(5,\), got nothing"):
        state.load_state_dict(broken)
    assert all(torch.equal(value, getattr(state, name)) for name, value in before.items())
