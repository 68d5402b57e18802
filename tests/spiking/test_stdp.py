import math

import pytest
import torch

from aleator.spiking import SymmetricSTDP
from aleator.spiking.stdp import potentiate

T = 60


def raster(*steps, batch=1, cells=1):
    spikes = torch.zeros(T, batch, cells, dtype=torch.bool)
    spikes[list(steps)] = True
    return spikes


def change(rule, pre, post, weight=0.1):
    return rule(raster(*pre), raster(*post), torch.full((1, 1), weight, dtype=torch.float64)).item()


@pytest.mark.parametrize("lag", [-17, -1, 0, 1, 17])
@pytest.mark.parametrize("decay", ["exp", "euler"])
def test_a_pair_strengthens_by_the_window_of_its_lag_whichever_spike_came_first(lag, decay):
    factor = math.exp(-0.5 / 20) if decay == "exp" else 1 - 0.5 / 20
    rule = SymmetricSTDP(tau=20, amplitude=0.1, lr=5e-3, decay=decay)
    assert change(rule, [30], [30 + lag]) == pytest.approx(5e-3 * 0.1 * factor ** abs(lag), abs=1e-12, rel=0)


def test_pairs_add_up():
    rule = SymmetricSTDP()
    pre, post = [3, 10, 11, 40], [5, 10, 38]
    pairs = sum(change(rule, [i], [j]) for i in pre for j in post)
    assert change(rule, pre, post) == pytest.approx(pairs, abs=1e-12, rel=0)


def test_the_batch_is_summed():
    rule = SymmetricSTDP()
    generator = torch.Generator().manual_seed(0)
    pre = torch.rand(T, 4, 3, generator=generator) < 0.1
    post = torch.rand(T, 4, 2, generator=generator) < 0.1
    weights = torch.full((3, 2), 0.2, dtype=torch.float64)
    apart = sum(rule(pre[:, [b]], post[:, [b]], weights) for b in range(4))
    torch.testing.assert_close(rule(pre, post, weights), apart, rtol=0, atol=1e-12)


def test_traces_may_start_above_zero():
    rule = SymmetricSTDP(lr=1.0, w_max=9.0, trace_init=1.0)
    assert change(rule, [4], []) == pytest.approx((1 - 0.5 / 20) ** 4, abs=1e-12, rel=0)


def test_no_weight_grows_above_its_maximum_and_one_above_it_stays_until_it_is_potentiated():
    rule = SymmetricSTDP(lr=100.0, w_max=1.0)
    assert change(rule, [3], [3], weight=0.9) == pytest.approx(0.1)
    weights, gain = torch.tensor([[1.2, 1.2]]), torch.tensor([[0.0, 0.1]])
    assert potentiate(weights, gain, 1.0).tolist() == [[pytest.approx(1.2), 1.0]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 0.0}, "tau must be positive, got 0.0"),
        ({"dt": 0.0}, r"dt must be in \(0, 20.0\], the traces' time constant, got 0.0"),
        ({"dt": 21.0}, r"dt must be in \(0, 20.0\], the traces' time constant, got 21.0"),
        ({"decay": "linear"}, "decay must be exp or euler, got 'linear'"),
    ],
)
@pytest.mark.plain
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        SymmetricSTDP(**options)
