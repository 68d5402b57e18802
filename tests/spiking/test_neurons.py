import pytest
import torch

from aleator.spiking import ConductanceLIF, preset

PARAMETERS = preset("hao2019-mnist-400")
HIDDEN = PARAMETERS.hidden


def cell(*values):
    return torch.tensor(values, dtype=torch.float64)


def test_without_input_the_voltage_falls_to_rest_by_the_euler_factor():
    cells, v, timer = ConductanceLIF(HIDDEN), cell(-55.0), cell(10.0)
    for _ in range(80):
        v, timer, _ = cells(v, timer, [])
    assert v.item() == pytest.approx(-65 + 10 * (1 - 0.5 / 100) ** 80, abs=1e-12)


def test_a_cell_that_spiked_holds_its_reset_for_five_steps_and_integrates_in_the_sixth():
    cells, strong = ConductanceLIF(HIDDEN), [(cell(50.0), 0.0)]
    v, timer, spikes = cells(cell(-53.0), cell(10.0), strong)
    assert spikes.item()
    held = []
    for _ in range(6):
        v, timer, spikes = cells(v, timer, strong)
        held.append((v.item(), spikes.item()))
    assert held[:5] == [(-65.0, False)] * 5
    assert held[5] == (-65.0, True)  # it moved above the threshold, spiked, and was reset


def test_a_class_cell_may_spike_in_steps_that_follow_each_other():
    cells, strong = ConductanceLIF(PARAMETERS.classes), [(cell(50.0), 0.0)]
    v, timer, first = cells(cell(-45.0), cell(10.0), strong)
    assert v.item() == -45.0
    assert first.item()
    assert cells(v, timer, strong)[2].item()


def test_the_voltage_is_never_below_its_floor():
    v, _, _ = ConductanceLIF(HIDDEN)(cell(-105.0, -99.0), cell(10.0, 10.0), [(cell(0.0, 500.0), -200.0)])
    assert v.tolist() == [-100.0, -100.0]


def test_a_raised_threshold_holds_a_spike_back():
    cells = ConductanceLIF(HIDDEN)
    v, timer = cell(-51.0, -51.0), cell(10.0, 10.0)
    assert cells(v, timer, [], cell(0.0, 5.0))[2].tolist() == [True, False]


@pytest.mark.parametrize("dt", [0.0, 100.5])
def test_the_step_must_not_be_longer_than_the_time_constant(dt):
    with pytest.raises(ValueError, match=rf"dt must be in \(0, 100.0\], the membrane's time constant, got {dt}"):
        ConductanceLIF(HIDDEN, dt)
