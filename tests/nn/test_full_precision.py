"""Statistics of modules: in double precision where the module is, and never in half precision."""

import pytest
import torch

from aleator.nn import BoundaryPredictor, ConditionalLinear, MinVarianceBaseline, StochasticUnits, sparsity_penalty
from aleator.nn.conditional_linear import GATES
from aleator.nn.global_mean import global_mean
from aleator.nn.score_function import BernoulliReinforce
from aleator.random import Streams


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def layer(gate="st", dtype=torch.float64):
    return ConditionalLinear(6, 40, 5, gate=gate, dtype=dtype, generator=generator())


def boundary_predictor():
    with Streams(0).scope("init"):
        return BoundaryPredictor(4, 3)


def inputs(size=30, dtype=torch.float64):
    return torch.randn(size, 6, generator=generator(1), dtype=dtype)


def buffers(module):
    return {name: buffer for name, buffer in module.named_buffers() if buffer.is_floating_point()}


@pytest.mark.parametrize("gate", GATES)
def test_a_layer_made_in_double_precision_has_its_statistics_and_gradients_in_it(gate):
    made = layer(gate)
    assert {buffer.dtype for buffer in buffers(made).values()} == {torch.float64}
    assert float(made.penalty_weight) == (1e-5 if "relu" in gate else 0.01)
    losses = made(inputs(), generator=generator(2)).square().mean(1)
    parts = losses.mean(), made.score_loss(losses), made.penalty()
    assert {part.dtype for part in parts} == {torch.float64}
    sum(parts).backward()
    assert all(buffer.isfinite().all() for buffer in buffers(made).values())


def test_the_running_means_of_a_baseline_are_those_of_double_precision():
    losses = torch.rand(50, generator=generator(), dtype=torch.float64)
    logits = torch.randn(50, 3, generator=generator(), dtype=torch.float64)
    estimator = BernoulliReinforce()
    score = estimator.score(logits, estimator(logits, generator=generator()))
    baseline = MinVarianceBaseline(3, dtype=torch.float64)
    baseline.update(losses, score)
    weight = torch.expm1(score).square()
    expected = (0.9e-6 + 0.1 * (weight * losses[:, None]).mean(0)) / (0.9e-6 + 0.1 * weight.mean(0))
    torch.testing.assert_close(baseline.value, expected, rtol=1e-13, atol=0)


@pytest.mark.parametrize("fraction", [0.1, 0.5])
def test_a_threshold_tells_logits_apart_that_differ_by_less_than_float32_can(fraction):
    made = layer().eval()
    with torch.no_grad():
        made.gater[2].bias.fill_(1.0)
        made.gater[2].weight.mul_(1e-10)
    made.calibrate_threshold([inputs(50)], fraction)
    made(inputs(50))
    assert float(made.active_fraction) == pytest.approx(fraction, abs=1e-12)
    predictor = boundary_predictor().double()
    logits = 1 + 1e-10 * torch.randn(200, generator=generator(), dtype=torch.float64)
    predictor.calibrate(logits, fraction)
    assert float((logits > predictor.threshold).double().mean()) == fraction


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_statistics_stay_in_float32_where_their_module_is_cast_to_half_precision(dtype):
    made, predictor = layer("sbn", torch.float32), boundary_predictor()
    made.gate.threshold.fill_(1 / 3)
    made.to(dtype)
    predictor.to(dtype)
    assert made.weight.dtype == predictor.output.weight.dtype == dtype
    assert {buffer.dtype for buffer in buffers(made).values()} == {torch.float32}
    assert {buffer.dtype for buffer in buffers(predictor).values()} == {torch.float32}
    assert made.gate.threshold == torch.tensor(1 / 3)
    assert made.double().gate.threshold.dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_the_penalty_on_gates_that_are_always_open_is_that_of_double_precision(dtype):
    ones = torch.ones(4, 3, dtype=dtype)
    expected = sparsity_penalty(ones.double(), 0.1)
    torch.testing.assert_close(sparsity_penalty(ones, 0.1).double(), expected, rtol=1e-6, atol=0)
    assert expected == pytest.approx(3 * 0.9 * 6 * 2.302585092994046, rel=1e-6)


def test_means_of_half_precision_neither_overflow_nor_round_the_number_of_examples():
    many = torch.ones(100_001, 1, dtype=torch.float16)
    assert global_mean(many) == 1
    share = torch.tensor([1.0] + 3 * [0.0], dtype=torch.bfloat16).repeat(999)[:, None]
    assert global_mean(share) == 0.25


def test_a_penalty_on_rectifiers_does_not_overflow_in_half_precision():
    made = layer("relu", torch.float16)
    with torch.no_grad():
        made.gater[2].bias.fill_(100.0)
    made(inputs(30, torch.float16))
    assert float(made.penalty().detach()) == pytest.approx(1e-5 * 30 * 40 * 100, rel=0.05)


@pytest.mark.plain
def test_logits_that_are_no_numbers_are_refused_in_evaluation_and_calibration():
    made = layer(dtype=torch.float32).eval()
    x = inputs(4, torch.float32)
    x[0, 0] = torch.nan
    with pytest.raises(ValueError, match="logits must be finite, got values from nan to nan"):
        made(x)
    with pytest.raises(ValueError, match="logits must be finite, got values from nan to nan"):
        made.calibrate_threshold([x])
    for wrong in (torch.nan, torch.inf):
        with pytest.raises(ValueError, match=f"logits must be numbers below infinity, got {wrong}"):
            boundary_predictor().calibrate(torch.tensor([0.0, wrong, 1.0]), 0.5)
    for gate in GATES.values():
        with pytest.raises(ValueError, match="logits must be finite"):
            StochasticUnits(gate).eval()(torch.tensor([torch.nan]))
