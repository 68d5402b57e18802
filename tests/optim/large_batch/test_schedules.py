import io

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from aleator.optim import LAMB, LinearEpochWarmupPoly, Stage, TwoStageSchedule, scale_for_batch, scale_warmup

BATCHES = (512, 1024, 2048, 4096, 8192, 16384, 32768)


def lamb(*lrs):
    return LAMB([{"params": [torch.ones(2, requires_grad=True)], "lr": lr} for lr in lrs or (1.0,)])


def rates(optimizer, schedule, steps):
    """The learning rates that the steps use, and what is left after them."""
    used = []
    for _ in range(steps):
        used.append([float(group["lr"]) for group in optimizer.param_groups])
        for group in optimizer.param_groups:
            group["params"][0].grad = torch.ones(2)
        optimizer.step()
        schedule.step()
    return used, [float(group["lr"]) for group in optimizer.param_groups]


def test_the_papers_table_for_bert():
    for j, batch in enumerate(BATCHES):
        assert scale_for_batch(6.25e-4, 512, batch) == pytest.approx(5 / (2 ** (3 - j / 2) * 1e3), rel=1e-12)
        assert scale_warmup(1 / 320, 512, batch) == pytest.approx(2**j / 320, rel=1e-12)


def test_the_papers_table_for_resnet_50():
    for j, batch in enumerate(BATCHES):
        assert scale_for_batch(5e-3, 512, batch) == pytest.approx(4 / (2 ** (3 - j / 2) * 100), rel=1e-12)
        assert 90 * scale_warmup(0.3125 / 90, 512, batch) == pytest.approx(0.3125 * 2**j, rel=1e-12)
    assert (3 / 297) * 297 / 3 > 1
    assert scale_warmup(3 / 297, 3, 297) == 1  # and is no refusal of the bound itself


def test_the_number_of_warmup_steps_is_the_same_for_every_batch():
    for batch in BATCHES:
        total = 512 * 10**6 // batch
        schedule = LinearEpochWarmupPoly(lamb(), total, warmup_ratio=scale_warmup(1 / 320, 512, batch))
        assert schedule.warmup_steps == 3125


def test_linear_rule_multiplies_by_the_ratio_of_batches():
    assert scale_for_batch(0.1, 256, 1024, rule="linear") == pytest.approx(0.4)
    assert scale_for_batch(0.1, 256, 64) == pytest.approx(0.05)


@pytest.mark.plain  # a loop, whose functions other tests check
@given(total=st.integers(1, 60), share=st.floats(0, 1), power=st.sampled_from([0.5, 1.0, 2.0]))
def test_every_step_uses_the_closed_form(total, share, power):
    warmup = int(share * total)
    for horizon in ("total", "rest"):
        optimizer = lamb(2.0)
        schedule = LinearEpochWarmupPoly(optimizer, total, warmup_steps=warmup, power=power, horizon=horizon)
        used, left = rates(optimizer, schedule, total)
        for k, (rate,) in enumerate(used):
            begin = warmup if horizon == "rest" else 0
            expected = (k + 1) / warmup if k < warmup else ((total - k) / (total - begin)) ** power
            assert rate == pytest.approx(2 * expected, rel=1e-9)
            assert rate > 0
        assert left == [0]


def test_decay_takes_over_with_the_drop_of_its_horizon():
    # NVIDIA's first phase: 7038 steps, 28.43 % warm-up, a square-root decay.
    after = {}
    for horizon in ("total", "rest"):
        optimizer = lamb(6e-3)
        schedule = LinearEpochWarmupPoly(optimizer, 7038, warmup_ratio=0.2843, power=0.5, horizon=horizon)
        assert schedule.warmup_steps == 2001
        used, _ = rates(optimizer, schedule, 2003)
        assert used[2000] == [pytest.approx(6e-3)]
        after[horizon] = used[2001][0] / 6e-3
    assert after["total"] == pytest.approx(0.846, abs=5e-4)
    assert after["rest"] == 1


def test_groups_keep_their_peaks_also_those_that_join():
    optimizer = lamb(1.0, 4.0)
    schedule = LinearEpochWarmupPoly(optimizer, 10, warmup_steps=2)
    rates(optimizer, schedule, 5)
    optimizer.add_param_group({"params": [torch.ones(2, requires_grad=True)], "lr": 2.0})
    used, left = rates(optimizer, schedule, 5)
    assert used[0] == pytest.approx([0.5, 2.0, 2.0])
    assert used[1] == pytest.approx([0.4, 1.6, 0.8])
    assert left == [0, 0, 0]


STAGES = (
    Stage(batch=64, seq_len=8, steps=10, lr=1.0, warmup=4),
    Stage(batch=32, seq_len=32, steps=6, lr=0.5, warmup=2),
)


def test_a_new_stage_warms_up_again_and_keeps_the_moments():
    optimizer = lamb(7.0)
    schedule = TwoStageSchedule(optimizer, STAGES)
    (parameter,) = optimizer.param_groups[0]["params"]
    first, _ = rates(optimizer, schedule, 9)
    assert schedule.stage is STAGES[0]
    last, _ = rates(optimizer, schedule, 1)
    assert schedule.stage is STAGES[1]
    assert [r for (r,) in first + last] == pytest.approx([0.25, 0.5, 0.75, 1, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])
    moments = optimizer.state[parameter]["exp_avg"].clone()
    assert moments.abs().min() > 0.5
    second, left = rates(optimizer, schedule, 6)
    assert [r for (r,) in second] == pytest.approx([0.25, 0.5, 0.5 * 4 / 6, 0.5 * 3 / 6, 0.5 * 2 / 6, 0.5 / 6])
    assert left == [0]
    assert float(optimizer.state[parameter]["step"]) == 16
    assert schedule.stage is STAGES[1]
    # A constant gradient of 1: m = 1 − 0.9ᵗ goes on rising through the switch.
    assert optimizer.state[parameter]["exp_avg"].tolist() == pytest.approx([1 - 0.9**16] * 2)


def test_without_rewarming_one_decay_runs_through_all_stages():
    optimizer, one = lamb(1.0), lamb(1.0)
    schedule = TwoStageSchedule(optimizer, STAGES, rewarm=False)
    single = LinearEpochWarmupPoly(one, 16, warmup_steps=4)
    assert rates(optimizer, schedule, 16) == rates(one, single, 16)


@pytest.mark.parametrize("stop", [0, 3, 9, 10, 15])
def test_resumed_schedules_continue_on_the_same_rates(stop):
    makers = (
        lambda optimizer: LinearEpochWarmupPoly(optimizer, 16, warmup_steps=5),
        lambda optimizer: TwoStageSchedule(optimizer, STAGES),
    )
    for make in makers:
        optimizer = lamb(1.0)
        schedule = make(optimizer)
        rates(optimizer, schedule, stop)
        buffer = io.BytesIO()
        torch.save({"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}, buffer)
        expected = rates(optimizer, schedule, 16 - stop)
        resumed = lamb(1.0)
        again = make(resumed)
        buffer.seek(0)
        state = torch.load(buffer, weights_only=True)
        resumed.load_state_dict(state["optimizer"])
        again.load_state_dict(state["schedule"])
        assert rates(resumed, again, 16 - stop) == expected


@pytest.mark.plain
@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LinearEpochWarmupPoly(lamb(), 10, warmup_steps=11), r"warmup_steps must be in \[0, 10\], .*, got 11"),
        (lambda: LinearEpochWarmupPoly(lamb(), 0), "total_steps must be at least 1, got 0"),
        (lambda: LinearEpochWarmupPoly(lamb(), 10, warmup_ratio=1.5), r"warmup_ratio must be in \[0, 1\], got 1.5"),
        (lambda: LinearEpochWarmupPoly(lamb(), 10, warmup_steps=1, warmup_ratio=0.1), "got both, 1 and 0.1"),
        (lambda: LinearEpochWarmupPoly(lamb(), 10, power=0.0), "power must be positive, got 0.0"),
        (lambda: LinearEpochWarmupPoly(lamb(), 10, horizon="all"), "horizon must be 'total' or 'rest', got 'all'"),
        (lambda: Stage(64, 8, 10, 1.0, 11), r"warmup_steps must be in \[0, 10\], .*, got 11"),
        (lambda: Stage(0, 8, 10, 1.0, 1), "batch must be positive, got 0"),
        (lambda: TwoStageSchedule(lamb(), []), "stages must have at least one stage, got none"),
        (lambda: scale_for_batch(0.1, 0, 8), "base_batch must be positive, got 0"),
        (lambda: scale_for_batch(0.1, 8, 16, rule="log"), "rule must be 'sqrt' or 'linear', got 'log'"),
        (lambda: scale_warmup(0.5, 8, 32), r"warmup_ratio must be in \[0, 0.25\] for a batch of 32, got 0.5"),
    ],
)
def test_impossible_schedules_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
