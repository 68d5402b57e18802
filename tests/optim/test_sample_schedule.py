"""Learning rates by examples seen: the formula, whatever the batches, and the size of the batch in the peak."""

import math

import pytest
import torch

from aleator.optim import SampleLR, scale_for_batch


def optimizer(*rates):
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": rate} for rate in rates or (0.4,)])


def rates(schedule, batches):
    found = []
    for batch in batches:
        schedule.ahead(batch)
        found.append([group["lr"] for group in schedule.optimizer.param_groups])
        schedule.advance(batch)
    return found


def test_rates_are_those_of_the_examples_at_the_end_of_the_step():
    schedule = SampleLR(optimizer(0.4, 0.1), 20, 100, "cosine", lr_min=0.05)
    found = rates(schedule, [5, 10, 20, 40, 25])
    for row, seen in zip(found, [5, 15, 35, 75, 100], strict=True):
        for peak, rate in zip((0.4, 0.1), row, strict=True):
            cosine = 0.05 + (peak - 0.05) * (1 + math.cos(math.pi * (seen - 20) / 80)) / 2
            assert rate == pytest.approx(peak * seen / 20 if seen < 20 else cosine, rel=1e-12)
    assert found[-1] == pytest.approx([0.05, 0.05])
    assert rates(schedule, [50])[0] == pytest.approx([0.05, 0.05])


def test_the_end_is_a_tenth_of_the_peak_unless_said_otherwise():
    assert rates(SampleLR(optimizer(), 0, total=10), [10]) == [[pytest.approx(0.04)]]
    assert rates(SampleLR(optimizer(), 0, total=10, shape="constant"), [2, 8]) == [[0.4], [0.4]]
    warmed = SampleLR(optimizer(), 4, 10, shape="constant")
    assert rates(warmed, [1, 2, 3]) == [[pytest.approx(0.1)], [pytest.approx(0.3)], [0.4]]


@pytest.mark.parametrize("rule", ["sqrt", "linear"])
def test_the_batch_scales_the_peak_by_the_one_rule_of_the_house(rule):
    schedule = SampleLR(optimizer(), 0, total=1000, shape="constant", scaling=rule, initial=8)
    assert rates(schedule, [8, 32, 128]) == [[scale_for_batch(0.4, 8, batch, rule)] for batch in (8, 32, 128)]


def test_a_saved_schedule_goes_on_and_a_tensor_rate_stays_the_tensor():
    one, other = SampleLR(optimizer(), 0, total=100), SampleLR(optimizer(), 0, total=100)
    rates(one, [10, 30])
    other.load_state_dict(one.state_dict())
    assert rates(one, [20, 40]) == rates(other, [20, 40])
    rate = torch.tensor(0.4, dtype=torch.float64)
    held = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=rate)
    assert float(rates(SampleLR(held, 0, total=100), [10, 30])[1][0]) == pytest.approx(
        rates(SampleLR(optimizer(), 0, total=100), [10, 30])[1][0], rel=1e-12
    )
    assert held.param_groups[0]["lr"] is rate


@pytest.mark.plain
@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"total": 0}, "total must be at least 1, got 0"),
        ({"warmup": 100}, r"warmup must be in \[0, 100\), total being 100, got 100"),
        ({"shape": "linear"}, "shape must be 'cosine' or 'constant', got 'linear'"),
        ({"lr_min": 0.5}, r"lr_min must be in \[0, 0.4\], the learning rate of every group, got 0.5"),
        ({"scaling": "cubic"}, "scaling must be 'sqrt', 'linear' or None, got 'cubic'"),
        ({"scaling": "sqrt"}, "initial must be a positive number of examples with scaling, got None"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(options, line):
    with pytest.raises(ValueError, match=line):
        SampleLR(optimizer(), **{"warmup": 0, "total": 100, **options})
