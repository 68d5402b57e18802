import warnings
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.data.budget import BudgetPlan, subset_size


def test_the_authors_cifar_budget():
    plan = BudgetPlan(n=50_000, ratio=0.1, rounds=200, batch_size=128)
    assert (plan.subset_size, plan.steps_per_round, plan.total_steps) == (5000, 39, 7800)
    assert plan.examples == 200 * 39 * 128
    assert plan.equivalent_epochs == pytest.approx(19.968)


def test_a_kept_short_batch_is_a_step():
    plan = BudgetPlan(n=50_000, ratio=0.1, rounds=200, batch_size=128, drop_last=False)
    assert (plan.steps_per_round, plan.total_steps) == (40, 8000)
    assert plan.examples == 10**6
    assert plan.equivalent_epochs == 20


def test_the_full_data_is_the_ratio_one():
    assert BudgetPlan(n=50_000, ratio=1, rounds=200, batch_size=128, drop_last=False).total_steps == 78_200


@pytest.mark.parametrize(("n", "ratio", "size"), [(50, 0.05, 2), (70, 0.05, 4), (1_281_167, 0.1, 128_117), (7, 1.0, 7)])
def test_subset_sizes_round_half_to_even(n, ratio, size):
    assert subset_size(n, ratio) == size


def test_coverage_at_one_percent_for_200_rounds():
    plan = BudgetPlan(n=50_000, ratio=0.01, rounds=200, batch_size=100)
    assert plan.coverage(replacement_between_rounds=True) == pytest.approx(0.866, abs=5e-4)
    assert plan.coverage(replacement_between_rounds=False) == 1


@given(n=st.integers(1, 10**6), ratio=st.floats(0.001, 1), rounds=st.integers(1, 500))
def test_coverage_is_a_share_and_less_with_replacement(n, ratio, rounds):
    if round(n * ratio) == 0:
        return
    plan = BudgetPlan(n, ratio, rounds, batch_size=1)
    with_replacement, without = plan.coverage(True), plan.coverage(False)
    assert 0 < with_replacement <= without + 1e-12
    assert without == min(n, rounds * plan.subset_size) / n


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"ratio": 0.0}, r"ratio must be in \(0, 1\], got 0.0"),
        ({"ratio": 1.5}, r"ratio must be in \(0, 1\], got 1.5"),
        ({"ratio": float("nan")}, r"ratio must be in \(0, 1\], got nan"),
        ({"ratio": 0.001}, "ratio must select at least one of the 100 examples, got 0.001"),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"rounds": 0}, "rounds must be at least 1, got 0"),
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"batch_size": 11}, "batch_size must be at most 10, .* got 11"),
    ],
)
def test_impossible_plans_are_refused(changed, message):
    with pytest.raises(ValueError, match=message):
        BudgetPlan(**({"n": 100, "ratio": 0.1, "rounds": 3, "batch_size": 10} | changed))


def test_a_batch_larger_than_the_subset_is_one_step_when_kept():
    assert BudgetPlan(n=100, ratio=0.1, rounds=3, batch_size=64, drop_last=False).total_steps == 3


def test_a_schedule_of_another_length_is_warned_about():
    plan = BudgetPlan(n=100, ratio=0.1, rounds=3, batch_size=5)
    with pytest.warns(UserWarning, match="schedule ends after 60 steps, the plan after 6"):
        plan.check(SimpleNamespace(total_steps=60))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plan.check(SimpleNamespace(total_steps=6))


def test_check_reads_the_length_of_torchs_cosine_and_names_a_schedule_without_one():
    plan = BudgetPlan(n=100, ratio=0.5, rounds=2, batch_size=10)
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    plan.check(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 10))
    with pytest.warns(UserWarning, match="ends after 5 steps, the plan after 10"):
        plan.check(torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 5))
    with pytest.raises(TypeError, match="total_steps or T_max, got ExponentialLR"):
        plan.check(torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5))
