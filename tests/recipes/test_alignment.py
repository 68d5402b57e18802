"""The recipe alignment."""

import json

import pytest
import torch
from accelerate.state import AcceleratorState

from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.random import Streams
from aleator.recipes.alignment import Alignment

SMALL = {
    "flow_steps": 10, "classifier_steps": 10, "prm_steps": 10, "width": 8, "depth": 1, "groups": 2, "group_size": 4,
    "sampling_steps": 4, "iterations": 3, "test_samples": 8,
}  # fmt: skip
PEER = {**SMALL, "method": "dance-grpo", "prm_steps": None}


def task_of(**options):
    AcceleratorState._reset_state()
    streams = Streams(0)
    task = Alignment(**options).task(streams, make_accelerator(options.get("precision", "float32")))
    task.begin()
    return task


@pytest.mark.parametrize("precision", ["float32", "float64", "bfloat16"])
def test_the_ratio_is_one_before_the_first_update_of_every_iteration(precision):
    task = task_of(**SMALL, precision=precision)
    for iteration in range(2):
        metrics = task.train_step(iteration).metrics
        # A mean log-probability in float32 is known to about 1e-7, a network in bfloat16 to the bit.
        assert float(metrics["first_ratio"]) == pytest.approx(1, abs=1e-6)
        assert metrics["ratio"].isfinite()


def test_without_guidance_process_reward_and_distillation_it_is_dancegrpo():
    ours = task_of(**{**SMALL, "prm_coef": 0.0, "guidance": 1e-30, "distill_coef": 0.0})
    peer = task_of(**PEER)
    # Rare rewards give neither a gradient: here every second sample is rewarded.
    for task in (ours, peer):
        task._is_wanted = lambda samples: samples.flatten(1).sum(1) > samples.flatten(1).sum(1).median()
        for iteration in range(2):
            task.train_step(iteration)
    for a, b in zip(ours.network.parameters(), peer.network.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-7)
    assert any(
        not torch.equal(a, b) for a, b in zip(peer.network.parameters(), peer.reference.parameters(), strict=True)
    )


def test_methods_begin_with_the_same_flow_and_the_same_reward():
    one, other = task_of(**SMALL), task_of(**PEER)
    for name in ("network", "classifier"):
        pairs = zip(getattr(one, name).parameters(), getattr(other, name).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


def test_a_run_ends_at_the_first_iteration_looked_at_that_meets_the_threshold_unless_told_to_go_on():
    for stop in (True, False):
        task = task_of(**{**SMALL, "check_every": 2, "stop_at_threshold": stop})
        shares = iter([0.1, 0.9, 0.9])
        task._rewarded = lambda *args, shares=shares, **kwargs: next(shares, 0.9)
        ends = [task.train_step(iteration).stop for iteration in range(2)]
        # One look before the first iteration was taken by `begin`; iteration 1 is not looked at.
        assert ends[0] is None
        assert task.curve[-1] == (2, 0.1)
        again = task.train_step(2).stop  # the last iteration always is
        assert again == ("90.0% of samples are rewarded after 3 iterations" if stop else None)
        assert task.evaluate("validation") == {"iterations": 3.0, "reached": 1.0, "share": 0.9}


def test_a_run_that_does_not_get_there_counts_all_its_iterations():
    task = task_of(**SMALL)
    task._rewarded = lambda *args, **kwargs: 0.0
    for iteration in range(3):
        assert task.train_step(iteration).stop is None
    assert task.evaluate("validation") == {"iterations": 3.0, "reached": 0.0, "share": 0.0}


def test_the_flow_sees_few_images_of_the_wanted_digit_and_rewards_see_all():
    task = task_of(**{**SMALL, "wanted": 5, "wanted_size": 6})
    parts, labels = task.material, task.material.labels
    assert len(parts.judged) == 1437
    assert len(parts.seen) == int((labels != 5).sum()) + 6
    assert float(parts.seen.min()) == -1.0
    assert float(parts.seen.max()) == 1.0


def test_clips_are_written_into_the_run_s_folder_and_play(tmp_path, monkeypatch):
    from PIL import Image

    monkeypatch.setattr("aleator.recipes.alignment.material.CLIPS", 256)

    options = {**SMALL, "data": "moving-digits", "iterations": 1, "clips": 2, "check_every": 1}
    run(Alignment(**options), tmp_path, RunOptions(trackers=()), name="alignment")
    files = sorted(path.name for path in tmp_path.glob("*.gif"))
    assert files == ["clip-1.gif", "clip-2.gif", "samples.gif"]
    with Image.open(tmp_path / "clip-1.gif") as clip:
        assert clip.n_frames > 1
    shown = json.loads((tmp_path / "exhibits.json").read_text())["exhibits"]
    assert [exhibit["heading"] for exhibit in shown] == ["Rewarded samples", "Clips", "Clip 1", "Clip 2"]


def test_the_flow_can_be_the_transformer_of_wan(monkeypatch):
    monkeypatch.setattr("aleator.recipes.alignment.models.BATCH", 2)
    monkeypatch.setattr("aleator.recipes.alignment.material.CLIPS", 256)
    monkeypatch.setattr("aleator.recipes.alignment.task.AlignmentTask._rewarded", lambda *args, **kwargs: 0.0)
    small = {"model": "wan", "width": 32, "flow_steps": 1, "iterations": 1, "groups": 1, "group_size": 2}
    task = task_of(**{**SMALL, **small, "data": "moving-digits", "sampling_steps": 3})
    before = [parameter.clone() for parameter in task.network.parameters()]
    assert float(task.train_step(0).metrics["first_ratio"]) == pytest.approx(1, abs=1e-6)
    assert any(not torch.equal(a, b) for a, b in zip(before, task.network.parameters(), strict=True))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"group_size": 1}, "group_size must be at least 2, got 1"),
        ({"threshold": 0.0}, r"threshold must be in \(0, 1\], got 0.0"),
        ({"wanted": 10}, "wanted must be a digit from 0 to 9, got 10"),
        ({"method": "dance-grpo", "guidance": 0.1}, "guidance cannot be used with method dance-grpo, got 0.1"),
        ({"method": "flow-grpo", "orm_coef": 0.0}, "orm_coef must be positive"),
        ({"guidance": 0.0, "distill_coef": 1.0}, "distill_coef cannot be used with guidance 0, got 1.0"),
        ({"prm_coef": 0.0, "prm_at": "delta"}, "prm_at cannot be used with prm_coef 0, got delta"),
        ({"prm_coef": 0.0, "guidance": 0.0}, "which is method dance-grpo"),
        ({"prm_coef": 0.0, "orm_coef": 0.0}, "orm_coef and prm_coef must not both be 0"),
        ({"guidance_start": 16}, "guidance_start must be from 0 to 15, a step of the rollout, got 16"),
        ({"model": "wan"}, "model must be mlp with data digits, got wan"),
        ({"clips": 2}, "clips cannot be used with data digits, got 2"),
        ({"updates": 3}, "updates must divide the 128 samples of an iteration, got 3"),
    ],
)
def test_options_that_cannot_work_are_refused_in_one_line(options, line):
    with pytest.raises(ValueError, match=line):
        Alignment(**options)


def test_what_is_trained_before_leaves_no_gradient():
    task = task_of(**SMALL)
    task.begin()
    networks = (task.network, task.classifier, task.prm)
    assert all(parameter.grad is None for network in networks for parameter in network.parameters())


def test_updates_that_do_not_divide_a_process_s_samples_are_refused_before_anything_is_trained():
    streams, accelerator = Streams(0), make_accelerator("float32")
    accelerator.state.num_processes = 2
    try:
        with pytest.raises(ValueError, match="updates must divide the 3 samples of a process, got 2"):
            Alignment(**{**SMALL, "group_size": 3}).task(streams, accelerator)
    finally:
        AcceleratorState._reset_state()


def test_more_of_the_wanted_digit_than_there_are_is_refused():
    with pytest.raises(ValueError, match=r"wanted_size must be at most .* for the digit 3, got 9999"):
        task_of(**{**SMALL, "wanted_size": 9999})
