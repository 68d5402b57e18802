"""The running mean of the weights follows its recursion, leaves the model alone, and resumes exactly."""

import copy
import io

import pytest
import torch
from torch import nn

from aleator.optim import weight_ema
from aleator.random import Streams


def model(seed=0):
    with Streams(seed).scope("init"):
        return nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).double()


def change(net, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(torch.randn(p.shape, generator=generator, dtype=p.dtype))
        net[1].running_mean.add_(1)
        net[1].num_batches_tracked.add_(1)


@pytest.mark.parametrize("decay", [0.999, 0.3, 0.0])
def test_it_is_the_recursion_with_warm_up_from_the_first_weights(decay):
    net = model()
    average = weight_ema(net, decay)
    wanted = [p.detach().clone() for p in net.parameters()]
    for n in range(1, 30):
        change(net, n)
        average.update_parameters(net)
        d = min(decay, (1 + n) / (10 + n))
        wanted = [d * w + (1 - d) * p.detach() for w, p in zip(wanted, net.parameters(), strict=True)]
    for found, w in zip(average.module.parameters(), wanted, strict=True):
        torch.testing.assert_close(found.detach(), w, rtol=1e-13, atol=1e-14)


def test_the_decay_reaches_its_value():
    ones, zeros = nn.PReLU(1, init=1.0).double(), nn.PReLU(1, init=0.0).double()
    average = weight_ema(ones, 0.9)
    average.n_averaged.fill_(1000)
    average.update_parameters(zeros)
    assert average.module.weight.detach() == pytest.approx(0.9, abs=1e-15)


def test_the_model_is_left_alone_and_buffers_are_its_last_ones():
    net = model()
    average = weight_ema(net)
    change(net, 1)
    before = copy.deepcopy(net.state_dict())
    average.update_parameters(net)
    assert all(torch.equal(before[name], value) for name, value in net.state_dict().items())
    assert not any(torch.equal(a, b) for a, b in zip(net.parameters(), average.module.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(net.buffers(), average.module.buffers(), strict=True))


def test_a_resumed_average_goes_on_as_if_it_had_not_stopped():
    net = model()
    average = weight_ema(net)
    for n in range(5):
        change(net, n)
        average.update_parameters(net)
    file = io.BytesIO()
    torch.save(average.state_dict(), file)
    file.seek(0)
    resumed = weight_ema(model(seed=9))
    resumed.load_state_dict(torch.load(file, weights_only=True))
    change(net, 7)
    for one in (average, resumed):
        one.update_parameters(net)
    assert average.state_dict().keys() == resumed.state_dict().keys()
    assert all(torch.equal(v, resumed.state_dict()[k]) for k, v in average.state_dict().items())


@pytest.mark.plain
@pytest.mark.parametrize("decay", [1.0, -0.1, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=r"decay must be in \[0, 1\), got"):
        weight_ema(nn.PReLU(), decay)


@pytest.mark.plain
def test_a_mean_that_would_stand_still_is_refused():
    half = nn.PReLU().bfloat16()
    with pytest.raises(
        ValueError, match=r"decay must be at most 0\.9921875 for parameters in torch.bfloat16, got 0.999"
    ):
        weight_ema(half, 0.999)
    weight_ema(half, 0.9)
