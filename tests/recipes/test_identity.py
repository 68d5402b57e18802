"""The recipe ``identity``: what its arms and its measures are."""

import math

import pytest
import torch

from aleator.cli import main
from aleator.experiment import RunOptions, run
from aleator.experiment.accelerators import make_accelerator
from aleator.random import Streams
from aleator.recipes.identity import Identity
from aleator.recipes.identity.sources import DigitSource, source_of
from aleator.recipes.identity.task import _copied

SMALL = {"width": 8, "depth": 1, "batch_size": 4, "sampling_steps": 2, "test_clips": 8, "steps": 4}


def built(**options):
    streams = Streams(0)
    with streams.scope("init"):
        return Identity(**{**SMALL, **options}).task(streams, make_accelerator("float32"))


def test_a_copy_of_the_photograph_leaks_all_of_its_block_and_the_true_clip_none():
    source = DigitSource()
    clips = source.held_out("test", "conflict", 40)
    assert bool((clips.motions.block != clips.of_photo.block).all())
    assert bool((clips.motions.level != clips.of_photo.level).all())
    true = _copied(source, "test", clips, clips.clips)
    assert true["leak"] == 0
    assert true["brightness_error"] == pytest.approx(0, abs=1e-6)
    copied = source.parts["test"].clips(clips.of_photo).unsqueeze(2)
    assert _copied(source, "test", clips, copied)["leak"] == 1
    levels = torch.tensor([0.4, 0.7, 1.0])
    apart = (levels[clips.of_photo.level] - levels[clips.motions.level]).abs().mean()
    assert _copied(source, "test", clips, copied)["brightness_error"] == pytest.approx(float(apart), abs=1e-6)


def test_a_leak_that_is_no_number_is_none_in_its_logarithm_either():
    source = DigitSource()
    clips = source.held_out("test", "conflict", 20)
    broken = _copied(source, "test", clips, clips.clips * torch.nan)
    assert math.isnan(broken["leak"])
    assert math.isnan(broken["log_leak"])
    assert _copied(source, "test", clips, clips.clips)["log_leak"] == math.log(0.01)


def test_an_evaluation_in_the_first_stage_is_without_the_photograph():
    given = {}
    for step in (2, 3):  # the first stage has two of four steps
        task = built()
        task.step = step
        clips = task.source.held_out("validation", "same", 2)
        task.model.forward = lambda x, t, condition, step=step: given.setdefault(step, condition["shallow"]) * 0 + x
        task._generated(clips, "validation")
    assert not given[2].any()
    assert given[3].any()


def test_digits_for_training_validation_and_test_are_apart():
    source = DigitSource()
    sizes = {name: len(part) for name, part in source.parts.items()}
    assert sizes == {"train": 1300, "validation": 137, "test": 360}
    train, validation = (source.parts[name].glyphs.flatten(1) for name in ("train", "validation"))
    together = torch.cat([train, validation]).unique(dim=0)
    assert len(together) == len(train.unique(dim=0)) + len(validation.unique(dim=0))


def test_the_model_gets_clips_from_minus_one_to_one_with_noise_of_each_step():
    task, noises = built(precision="float64", batch_size=16), []
    forward = task.model.forward
    for batch, _ in zip(task.train_batches(), range(2), strict=False):
        seen = []
        task.model.forward = lambda x, t, given, seen=seen: seen.append((x, t)) or forward(x, t, given)
        task.train_step(batch)
        (noisy, t), level = seen[0], task.levels[seen[0][1]].view(-1, 1, 1, 1, 1)
        noises.append((noisy - level.sqrt() * (2 * batch[1].clips - 1)) / (1 - level).sqrt())
        assert len(t.unique()) > 8
        assert float(noises[-1].std()) == pytest.approx(1, abs=0.05)  # five deviations, of 4,608 numbers
        assert float(noises[-1].mean()) == pytest.approx(0, abs=0.08)
    assert abs(float((noises[0] * noises[1]).mean())) < 0.08


def test_only_an_arm_with_a_photograph_depends_on_it():
    sent = {}
    for arm in ("text", "high-level", "always-on", "two-stage"):
        task = built(arm=arm)
        step, clips = next(iter(task.train_batches()))
        condition = task._condition(clips)
        given, keep = task.conditions(condition, step)
        sent[arm] = bool(given["shallow"].any()), bool(condition["identity"].any())
        assert float(keep.double().mean()) == (arm == "always-on")
    assert sent == {
        "text": (False, False), "high-level": (False, True), "always-on": (True, True), "two-stage": (False, True),
    }  # fmt: skip
    second = built(first_stage=0.0, p=1.0).conditions(condition, 0).keep
    assert bool(second.all())


@pytest.mark.parametrize("data", ["grid-faces", "olivetti"])
@pytest.mark.usefixtures("mirror")
def test_faces_are_shown_in_files_that_play(data, tmp_path, monkeypatch):
    monkeypatch.setattr("aleator.recipes.identity.networks._STEPS", 2)  # classifiers that know nobody
    pytest.importorskip("imageio", reason="needs the extra video: pip install 'aleator[video]'")
    if data == "grid-faces":  # the other one's classifiers take a second, so only its clips are looked at
        source = source_of(data)
        clips = source.held_out("test", "conflict", 5)
        assert clips.clips.shape == (5, 2, 3, 32, 32)
        assert clips.text.sum(2).eq(1).all()
        return
    found = run(Identity(data=data, **SMALL), tmp_path / "run", RunOptions(trackers=()), name="identity")["test"]
    assert found.keys() == {"mse", "same_mse", "identity", "variation"}
    files = {"clips-same.png", "clips-same.gif", "clips-conflict.png", "clips-conflict.gif"}
    assert files <= {path.name for path in (tmp_path / "run").iterdir()}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--arm", "always-on", "--p", "0.3"], "p cannot be used with arm always-on, got 0.3"),
        (
            ["--first-stage", "1", "--p", "0.3"],
            "p cannot be used with first_stage 1, after which nothing comes, got 0.3",
        ),
        (["--arm", "text", "--first-stage", "0.3"], "first_stage cannot be used with arm text, got 0.3"),
        (["--p", "1.5"], "p must be in [0, 1], got 1.5"),
        (["--drop", "1"], "drop must be in [0, 1), got 1.0"),
        (["--width", "10"], "width must be a multiple of 4 and at least 8, got 10"),
        (["--test-clips", "4"], "test_clips must be at least 8, got 4"),
        (["--sampling-steps", "1001"], "sampling_steps must be at most 1000, got 1001"),
    ],
)
def test_refuses_in_one_line(options, line, tmp_path, capsys):
    assert main(["run", "identity", *options, "--out", str(tmp_path / "run")]) == 2
    assert line in capsys.readouterr().err
