"""Advantages within groups and the clipped surrogate."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aleator.losses import clipped_surrogate, group_advantages


def rewards(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_a_group_has_mean_zero_and_unbiased_deviation_one():
    a = group_advantages(rewards(24, 3), 8).reshape(3, 8, 3)
    torch.testing.assert_close(a.mean(1), torch.zeros(3, 3).double(), rtol=0, atol=1e-12)
    torch.testing.assert_close(a.std(1), torch.ones(3, 3).double(), rtol=1e-6, atol=0)


@settings(max_examples=20)
@given(st.permutations(range(6)), st.sampled_from(["group", "batch"]))
def test_the_order_within_a_group_is_kept_and_makes_no_difference(order, std):
    r = rewards(12, 2)
    permuted = torch.cat([r[:6][order], r[6:]])
    a, b = group_advantages(r, 6, std=std), group_advantages(permuted, 6, std=std)
    torch.testing.assert_close(b, torch.cat([a[:6][order], a[6:]]), rtol=1e-12, atol=1e-12)


def test_flow_grpo_divides_by_the_biased_deviation_of_the_whole_batch():
    r = rewards(12)
    expected = (r.reshape(3, 4) - r.reshape(3, 4).mean(1, keepdim=True)) / (r.std(correction=0) + 1e-4)
    found = group_advantages(r, 4, std="batch", unbiased=False, eps=1e-4)
    torch.testing.assert_close(found, expected.reshape(-1), rtol=1e-12, atol=0)


@pytest.mark.parametrize("level", [0.0, 0.1, 12345.678])
def test_equal_rewards_have_no_advantage_up_to_rounding(level):
    r = torch.full((8,), level, dtype=torch.float32)
    r[3] = torch.nextafter(r[3], torch.tensor(math.inf))
    assert torch.equal(group_advantages(r, 8), torch.zeros(8))
    assert group_advantages(r + 0.01 * torch.arange(8) * max(level, 1), 8).abs().max() > 1


def test_the_clamp_acts_from_a_group_of_27_on():
    """One sample unlike all others has the largest advantage there is, (G − 1)/√G."""
    for size, largest in ((26, 25 / math.sqrt(26)), (27, 5.0), (64, 5.0)):
        r = torch.zeros(size, dtype=torch.float64)
        r[0] = 1
        assert float(group_advantages(r, size).max()) == pytest.approx(largest, abs=1e-6)
    assert float(group_advantages(r, 64, clip=None).max()) == pytest.approx(63 / 8, abs=1e-6)


def test_the_surrogate_is_the_larger_of_the_two_losses():
    new = torch.log(torch.tensor([1.0, 1.2, 1.2, 0.8, 0.8], dtype=torch.float64))
    a = torch.tensor([2.0, 1.0, -1.0, 1.0, -1.0], dtype=torch.float64)
    expected = torch.tensor([-2.0, -1.1, 1.2, -0.8, 0.9], dtype=torch.float64)
    torch.testing.assert_close(clipped_surrogate(new, torch.zeros(5).double(), a, 0.1), expected)


def test_at_a_ratio_of_one_the_gradient_is_minus_the_advantage_and_beyond_the_clip_there_is_none():
    new = torch.tensor([0.0, 0.0, 0.01, -0.01], requires_grad=True)
    clipped_surrogate(new, torch.zeros(4), torch.tensor([2.0, -3.0, 1.0, -1.0]), 1e-4).sum().backward()
    assert new.grad.tolist() == [-2.0, 3.0, 0.0, 0.0]


@pytest.mark.plain
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: group_advantages(torch.zeros(4), 1), "group_size must be at least 2, got 1"),
        (lambda: group_advantages(torch.zeros(6), 4), r"a multiple of group_size = 4 samples, got shape \(6,\)"),
        (lambda: group_advantages(torch.zeros(0), 4), r"a multiple of group_size = 4 samples, got shape \(0,\)"),
        (lambda: group_advantages(torch.tensor([0.0, math.nan]), 2), "rewards must be finite, got nan"),
        (lambda: group_advantages(torch.zeros(4), 2, clip=0.0), "clip must be positive, got 0.0"),
        (lambda: group_advantages(torch.zeros(4), 2, std="all"), "std must be group or batch, got 'all'"),
        (lambda: group_advantages(torch.zeros(4), 2, eps=-1.0), "eps must not be negative, got -1.0"),
        (lambda: clipped_surrogate(*[torch.zeros(2)] * 3, 0.0), "clip must be positive and finite, got 0.0"),
        (
            lambda: clipped_surrogate(torch.zeros(2), torch.zeros(3), torch.zeros(2), 0.1),
            r"logp_old must have the shape of logp_new, \(2,\), got \(3,\)",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(call, message):
    with pytest.raises(ValueError, match=message) as refusal:
        call()
    assert "\n" not in str(refusal.value)
