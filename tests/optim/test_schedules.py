import io
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.data.budget import BudgetPlan
from aleator.optim import CosineToBudget


def sgd(*lrs):
    return torch.optim.SGD([{"params": [torch.zeros(1, requires_grad=True)], "lr": lr} for lr in lrs])


def rates(optimizer, schedule, steps):
    """The learning rates that the steps use, and what is left after them."""
    used = []
    for _ in range(steps):
        used.append([float(group["lr"]) for group in optimizer.param_groups])
        optimizer.step()
        schedule.step()
    return used, [float(group["lr"]) for group in optimizer.param_groups]


@given(total=st.integers(1, 300), lr=st.floats(1e-3, 10), share=st.floats(0, 1))
def test_every_step_uses_the_closed_form(total, lr, share):
    lr_min = lr * share
    optimizer = sgd(lr)
    used, left = rates(optimizer, CosineToBudget(optimizer, total, lr_min=lr_min), total)
    for t, (rate,) in enumerate(used):
        assert rate == pytest.approx(lr_min + (lr - lr_min) * (1 + math.cos(math.pi * t / total)) / 2, abs=1e-10)
    assert used[0] == [lr_min + (lr - lr_min)]
    assert left == [lr_min]


def test_the_authors_schedule_ends_at_their_floor():
    plan = BudgetPlan(n=50_000, ratio=0.1, rounds=200, batch_size=128, drop_last=False)
    optimizer = sgd(0.1)
    schedule = CosineToBudget(optimizer, plan.total_steps, lr_min=1e-4)
    plan.check(schedule)
    used, left = rates(optimizer, schedule, 8000)
    assert used[4000] == [pytest.approx(0.05005, abs=1e-10)]
    assert left == [1e-4]


def test_the_rate_never_rises_not_even_past_the_end():
    optimizer = sgd(0.1)
    used, left = rates(optimizer, CosineToBudget(optimizer, 50, lr_min=1e-3), 200)
    assert used == sorted(used, reverse=True)
    assert used[50:] == [[1e-3]] * 150
    assert left == [1e-3]


def test_groups_keep_their_own_peaks_and_share_the_floor():
    optimizer = sgd(0.1, 0.4)
    used, left = rates(optimizer, CosineToBudget(optimizer, 10, lr_min=0.01), 10)
    assert used[5] == pytest.approx([0.055, 0.205])
    assert left == [0.01, 0.01]


def test_warmup_is_linear_and_the_cosine_takes_the_rest():
    optimizer, plain = sgd(0.8), sgd(0.8)
    used, left = rates(optimizer, CosineToBudget(optimizer, 13, lr_min=0.1, warmup=3), 13)
    assert used[:4] == [[pytest.approx(0.8 * k / 4)] for k in (1, 2, 3, 4)]
    assert used[3:] == rates(plain, CosineToBudget(plain, 10, lr_min=0.1), 10)[0]
    assert left == [0.1]


@pytest.mark.parametrize("lr", [1.0, torch.tensor(1.0)], ids=["number", "tensor"])
def test_a_group_that_joins_follows_the_same_curve(lr):
    optimizer = sgd(0.1)
    schedule = CosineToBudget(optimizer, 20)
    rates(optimizer, schedule, 10)
    optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": lr})
    used, left = rates(optimizer, schedule, 10)
    assert used[0] == [pytest.approx(0.05), 1.0]
    for first, second in used[1:]:
        assert second == pytest.approx(10 * first)
    assert left == [0, 0]


@pytest.mark.parametrize("stop", [0, 1, 7, 29, 30])
def test_a_resumed_schedule_continues_on_the_same_rates(stop):
    optimizer = sgd(0.1, 0.3)
    schedule = CosineToBudget(optimizer, 30, lr_min=1e-4, warmup=5)
    rates(optimizer, schedule, stop)
    buffer = io.BytesIO()
    torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, buffer)
    expected = rates(optimizer, schedule, 35 - stop)

    resumed = sgd(0.1, 0.3)
    again = CosineToBudget(resumed, 30, lr_min=1e-4, warmup=5)
    buffer.seek(0)
    state = torch.load(buffer, weights_only=True)
    resumed.load_state_dict(state["optimizer"])
    again.load_state_dict(state["schedule"])
    assert rates(resumed, again, 35 - stop) == expected


def test_a_tensor_rate_is_written_in_place():
    lr = torch.tensor(0.5)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=lr)
    _, left = rates(optimizer, CosineToBudget(optimizer, 4, lr_min=0.25), 2)
    assert optimizer.param_groups[0]["lr"] is lr
    assert left == [0.375]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"total_steps": 0}, "total_steps must be at least 1, got 0"),
        ({"warmup": 10}, r"warmup must be in \[0, 10\), total_steps being 10, got 10"),
        ({"warmup": -1}, "warmup must be in .*, got -1"),
        ({"lr_min": -0.1}, "lr_min must not be negative, got -0.1"),
        ({"lr_min": 0.2}, "lr_min must be at most the learning rate of every group, here 0.1, got 0.2"),
    ],
)
def test_impossible_schedules_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CosineToBudget(sgd(0.3, 0.1), **({"total_steps": 10} | arguments))


def test_a_group_that_joins_below_the_floor_is_refused():
    optimizer = sgd(0.1)
    schedule = CosineToBudget(optimizer, 20, lr_min=0.01)
    optimizer.add_param_group({"params": [torch.zeros(1, requires_grad=True)], "lr": 1e-3})
    optimizer.step()
    with pytest.raises(
        ValueError, match=r"lr_min must be at most the learning rate of every group, here 0.001, got 0.01"
    ):
        schedule.step()
